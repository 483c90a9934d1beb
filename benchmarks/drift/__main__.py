"""``python -m benchmarks.drift --work DIR``: plays honest and bad streams on real nodes, and asks the real rules."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.drift.plan import Story, pushes, stories
from benchmarks.drift.plots import draw
from benchmarks.drift.running import Step, loaded, play, saved
from benchmarks.drift.summary import broken, summarise, table
from benchmarks.drift.teams import Suite, trained_suite
from mergenode.maths.threads import one_thread

TEAMS = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Everything that is missing in ``--work``. Returns 1 when what the README promises does not hold."""
    given = _parser().parse_args(arguments)
    if shutil.which("promtool") is None:
        _say("promtool is not installed (Debian: package prometheus); without it nobody evaluates the rules")
        return 2
    given.work.mkdir(parents=True, exist_ok=True)
    with one_thread():
        suite = trained_suite(given.work / "models", TEAMS, lambda name: _say(f"training {name}"))
        played = {story: _played(story, suite, given.work) for story in stories(given.honest, given.bad)}
    summary = summarise(played)
    (given.work / "drift.json").write_text(json.dumps(summary, indent=1) + "\n")
    draw(summary, given.work / "drift.png")
    _say("\n" + table(summary))
    for row in summary["bad"]:
        for alert in row["alerts"]:
            when = f"fold {alert['fold']}{', held' if alert['held'] else ''}"
            _say(f"{row['kind']}, seed {row['seed']}, {when}: {alert['summary']}. {alert['description']}")
    honest = summary["honest"]
    _say(f"{sum(row['folds'] for row in honest)} honest folds in {len(honest)} streams: largest shift "
         f"{max(row['shift'] for row in honest):.2f}")  # fmt: skip
    _say(f"distance from ten folds ago, by norms over measured: {summary['distance']}")
    for row in honest:
        for found in row["gates"]:
            _say(f"{row['kind']}, seed {row['seed']}: a gate speaks against an honest one, {found}")
    wrong = broken(summary)
    for each in wrong:
        _say(f"NOT MET: {each}")
    return 1 if wrong else 0


def _played(story: Story, suite: Suite, work: Path) -> list[Step]:
    """From its file if there is one."""
    file = work / f"{story.name}.json"
    if not file.exists():
        started = time.monotonic()
        saved(play(list(pushes(story, suite)), suite, work / "node"), file)
        _say(f"{story.name}: {time.monotonic() - started:.0f} s")
    return loaded(file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=__doc__)
    parser.add_argument(
        "--work", type=Path, required=True, help="directory for models and streams; what is there stays"
    )
    parser.add_argument("--honest", type=int, default=4, help="so many honest streams; at least --bad")
    parser.add_argument("--bad", type=int, default=2, help="so many streams of every kind of bad contributions")
    return parser


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
