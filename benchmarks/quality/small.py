"""The form of ``make quality``: four tasks, short training, five methods, a table within minutes."""

from __future__ import annotations

from pathlib import Path

from benchmarks.quality.campaign import run_setting
from benchmarks.quality.contestants import SMALL, contestants
from benchmarks.quality.experts import SETTINGS, train_all
from benchmarks.quality.measuring import Bench
from benchmarks.quality.page import main_table, plain
from benchmarks.quality.plan import SIZES
from benchmarks.quality.summary import summarise
from benchmarks.quality.tasks import TASKS

ROWS = 300


def run_small(work: Path) -> int:
    """Train, merge, score, print. Returns 1 when no method keeps more than the average does."""
    setting = SETTINGS["small"]
    train_all(setting, work, TASKS[: max(SIZES["small"])], lambda line: print(line, flush=True))
    rows = [row for row in contestants() if row.label in SMALL]
    found = run_setting(Bench(work, {}, lambda line: print(line, flush=True)), setting, ROWS, rows)
    summary = summarise(found)
    print(plain(main_table(summary)))
    last = str(max(SIZES["small"]))
    kept = {row["label"]: row["sizes"][last]["kept"] for row in summary["rows"]}
    best = max(kept, key=lambda label: kept[label])
    print(f"best: {best}")
    return 0 if kept[best] > kept["average"] else 1
