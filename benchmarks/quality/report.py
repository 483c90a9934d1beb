"""JSON, pictures and page from what was measured."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import torch
import transformers

from benchmarks.quality.page import main_table, page, plain
from benchmarks.quality.plots import write_plots
from benchmarks.quality.summary import summarise

SETTINGS_SHOWN = ("light", "strong", "many")


def write_report(work: Path, output: Path) -> None:
    """Write ``figures.json``, four PNG files and ``index.html`` into ``output``; print the tables.

    Raises SystemExit when nothing was measured in ``work``.
    """
    files = [work / f"{name}.json" for name in SETTINGS_SHOWN]
    summaries = [summarise(json.loads(file.read_text())) for file in files if file.exists()]
    if not summaries:
        raise SystemExit(f"{work} holds no results: run `python -m benchmarks.quality run --work {work}` first")
    output.mkdir(parents=True, exist_ok=True)
    environment = {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "CPU": platform.machine(),
    }
    figures = {"environment": environment, "settings": {summary["setting"]: summary for summary in summaries}}
    text = json.dumps(figures, indent=1, sort_keys=True)
    (output / "figures.json").write_text(text + "\n")
    plots = write_plots(summaries, output)
    (output / "index.html").write_text(page(summaries, plots, environment))
    for summary in summaries:
        print(f"\n{summary['setting']} experts\n{plain(main_table(summary))}")
