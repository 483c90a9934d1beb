"""``python -m benchmarks.dimat --work DIR``: trains and mixes, writes JSON, curves and the table of the README."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.dimat.curves import draw
from benchmarks.dimat.plan import ROUNDS, SEEDS, cells
from benchmarks.dimat.running import run
from benchmarks.dimat.summary import broken, summarise, table
from mergenode.demo.peers.network import Recipe
from mergenode.maths.threads import one_thread

SMALL_ROUNDS = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Everything that is missing in ``--work``. Returns 1 when what the README promises does not hold."""
    given = _parser().parse_args(arguments)
    with one_thread():
        plan = (
            cells(SMALL_ROUNDS, SEEDS[:1], Recipe(), ("iid", "classes"))
            if given.small
            else cells(given.rounds, tuple(range(given.seeds)), Recipe())
        )
        results = run(plan, given.work, _say)
    summary = summarise(results)
    (given.work / "dimat.json").write_text(json.dumps(summary, indent=1) + "\n")
    draw(summary, given.work / "dimat.png")
    _say("\n" + table(summary))
    wrong = broken(summary)
    for each in wrong:
        _say(f"NOT MET: {each}")
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dimat", description=__doc__)
    parser.add_argument(
        "--work", type=Path, required=True, help="directory for results; what is there is not run again"
    )
    parser.add_argument("--small", action="store_true", help="two splits, one seed, four rounds: under three minutes")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="so many seeds")
    return parser


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
