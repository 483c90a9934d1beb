"""``python -m benchmarks.quality``: trains the experts, merges and scores them, writes the report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.quality.experts import SETTINGS, train_all
from benchmarks.quality.tasks import TASKS


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    experts = commands.add_parser("experts", help="extract the base, fine-tune the experts that are missing")
    experts.add_argument("--work", type=Path, required=True)
    experts.add_argument("--setting", choices=SETTINGS, default="light")
    experts.add_argument("--tasks", type=int, default=len(TASKS))
    given = parser.parse_args(arguments)
    train_all(SETTINGS[given.setting], given.work, given.tasks, lambda line: print(line, flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
