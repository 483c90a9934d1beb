"""Time the projection kernel beside a literal fold: ``python -m benchmarks.kernel``.

Prints a table; ``--json FILE`` keeps every single run. Exits 1 when a shape takes a larger share than its limit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # read once, when the numerical libraries are loaded

import torch  # noqa: E402

from benchmarks.kernel.contest import LIMITS, Result, contest  # noqa: E402
from mergenode.maths.projection import Variant  # noqa: E402


def parse_shape(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    return int(rows), int(columns)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.kernel", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shapes", nargs="+", type=parse_shape, default=list(LIMITS), metavar="ROWSxCOLUMNS")
    parser.add_argument("--variant", type=Variant, choices=list(Variant), default=Variant.BLOCK)
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--repeats", type=int, default=7, help="runs of each routine below 2**22 elements")
    parser.add_argument("--large-repeats", type=int, default=3, help="runs from 2**22 elements")
    parser.add_argument("--json", type=Path, help="write every run to this file")
    return parser.parse_args(given)


def row(result: Result) -> str:
    block = result.variant == "block"  # what the literal fold computes: others are timed beside it, not compared
    limit = LIMITS.get(result.shape) if block else None
    difference = f"{result.difference:.1e}" if block else ""
    spread = [f"{min(s):.3f}..{max(s):.3f}" for s in (result.ours, result.literal)]
    return (
        f"| {result.shape[0]}x{result.shape[1]} | {result.rank} | {statistics.median(result.ours):.3f} ({spread[0]}) "
        f"| {statistics.median(result.literal):.3f} ({spread[1]}) | {result.ratio:.3f} "
        f"| {'' if limit is None else f'{limit:.2f}'} | {difference} | {len(result.ours)} |"
    )


def main(given: Sequence[str] | None = None) -> int:
    """0: every shape within its limit; 1: one is not."""
    options = arguments(given)
    torch.set_num_threads(1)
    sys.stdout.write(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, 1 thread, CPU s\n\n")
    sys.stdout.write("| shape | rank | kernel: median (min..max) | literal: median (min..max) | ratio | limit ")
    sys.stdout.write("| difference | runs |\n|---|---|---|---|---|---|---|---|\n")
    results = []
    for shape in options.shapes:
        repeats = options.repeats if shape[0] * shape[1] < 1 << 22 else options.large_repeats
        results.append(contest(shape, options.variant, repeats, options.alpha))
        sys.stdout.write(row(results[-1]) + "\n")
        sys.stdout.flush()
    if options.json is not None:
        options.json.write_text(json.dumps([result.as_json() for result in results], indent=2) + "\n")
    late = [r for r in results if r.variant == "block" and r.ratio > LIMITS.get(r.shape, float("inf"))]
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
