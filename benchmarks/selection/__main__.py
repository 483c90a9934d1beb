"""Selection and gates on the text suite: experts, pools, gates, report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.selection.experts import train_pool
from benchmarks.selection.suite import SEEDS


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    given = _parser().parse_args(arguments)
    if given.command == "experts":
        train_pool(given.work, _say)
    elif given.command == "pool":
        from benchmarks.selection.experiment import run_seed

        train_pool(given.work, _say)
        for seed in given.seeds:
            run_seed(given.work, seed, _say, given.rows, core=given.core)
    elif given.command == "gates":
        from benchmarks.selection.gate_trials import measure

        train_pool(given.work, _say)
        measure(given.work, _say)
    elif given.command == "agreement":
        from benchmarks.selection.agreement import compare_all

        train_pool(given.work, _say)
        compare_all(given.work, SEEDS[0], _say)
    elif given.command == "report":
        from benchmarks.selection.report import write_report

        write_report(given.work, given.output)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selection", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("experts", help="extract the base, fine-tune the experts that are missing")
    pool = commands.add_parser("pool", help="pools with irrelevant and harmful checkpoints; goes on where it stopped")
    pool.add_argument("--seeds", type=int, nargs="+", choices=SEEDS, default=list(SEEDS))
    pool.add_argument("--rows", nargs="+", default=[], metavar="LABEL", help="these ways to choose only")
    pool.add_argument("--core", action="store_true", help="only with none and with all irrelevant ones")
    commands.add_parser("gates", help="harmful kinds and honest checkpoints against every gate")
    commands.add_parser("agreement", help="the selector against the literal algorithm, streamed scores against memory")
    report = commands.add_parser("report", help="JSON, pictures and page from what was measured")
    report.add_argument("--output", type=Path, default=Path(__file__).with_name("report"))
    for command in commands.choices.values():
        command.add_argument("--work", type=Path, required=True, help="directory for experts, points and scores")
    return parser


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
