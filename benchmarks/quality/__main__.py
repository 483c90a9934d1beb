"""``python -m benchmarks.quality``: trains the experts, merges and scores them, writes the report."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.experts import SETTINGS, train_all
from benchmarks.quality.plan import PARTS, SIZES
from benchmarks.quality.tasks import TASKS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 1 when the small form finds no method better than the average."""
    given = _parser().parse_args(arguments)
    if given.command == "report":
        from benchmarks.quality.report import write_report

        write_report(given.work, given.output, onto=given.onto)
        return 0
    if given.command == "small":
        from benchmarks.quality.small import run_small

        return run_small(given.work)
    for name in given.setting:
        unknown = sorted(set(given.sizes) - set(SIZES[name]))
        if unknown:
            raise SystemExit(f"setting {name!r} has the sizes {list(SIZES[name])}, not {unknown}")
        train_all(SETTINGS[name], given.work, TASKS[: max(SIZES[name])], _say)
        if given.command == "run":
            _measure(given.work, name, given)
    return 0


def _measure(work: Path, name: str, given: argparse.Namespace) -> None:
    from benchmarks.quality.campaign import run_setting
    from benchmarks.quality.contestants import contestants
    from benchmarks.quality.measuring import Bench

    chosen = [row for row in contestants() if not given.only or row.label in given.only]
    partial = bool(given.only or given.sizes) or set(given.parts) != set(PARTS)

    def keep(found: dict[str, Any]) -> None:
        file = work / (f"{name}-rows.json" if partial else f"{name}.json")
        file.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")

    bench = Bench(work, {}, _say)
    run_setting(bench, SETTINGS[name], given.rows, chosen, keep, parts=given.parts, sizes=given.sizes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, meaning in (
        ("experts", "extract the base, fine-tune the experts that are missing"),
        ("run", "the experts, then every merge and its scores; goes on where it was stopped"),
    ):
        command = commands.add_parser(name, help=meaning)
        command.add_argument("--setting", choices=SETTINGS, nargs="+", default=["light"])
        command.add_argument("--rows", type=int, default=None, help="test rows per task; default all")
        command.add_argument("--only", nargs="+", default=[], metavar="LABEL", help="these rows of the table only")
        command.add_argument("--parts", choices=PARTS, nargs="+", default=PARTS, help="these measurements only")
        command.add_argument("--sizes", type=int, nargs="+", default=[], help="other orders at these sizes only")
    commands.add_parser("small", help="the form of `make quality`: four tasks, five methods, minutes")
    report = commands.add_parser("report", help="JSON, plots and page from what was measured")
    report.add_argument("--output", type=Path, default=Path(__file__).with_name("report"))
    report.add_argument(
        "--onto", action="store_true", help="what `run --only` or `--parts` measured, onto what is there"
    )
    for command in commands.choices.values():
        command.add_argument("--work", type=Path, required=True, help="directory for experts, results and scores")
    return parser


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
