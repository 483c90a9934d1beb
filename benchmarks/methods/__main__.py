"""``python -m benchmarks.methods --work DIR``: CPU of folds and exports of the sum family, as ratios, taken in turn."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.methods.folding import measure_folds
from benchmarks.methods.matrices import measure_decompositions, measure_kernels, measure_products
from benchmarks.models import main as generate
from mergenode.adapters.engines.local.allocator import tune_allocator
from mergenode.maths.threads import one_thread


def main() -> None:
    """Measure, print a table, write JSON; exit 1 when a figure is above its limit."""
    arguments = _arguments()
    work = arguments.work.resolve()
    models = work / f"models-{arguments.preset}"
    if not (models / "tuned-2" / "config.json").exists():
        generate(["--preset", arguments.preset, "--out", str(models), "--fine-tunes", "2", "--seed", "0"])
    tune_allocator()
    with one_thread():
        figures = [
            *measure_folds(models, work / "state", arguments.repeats),
            *measure_kernels(arguments.repeats),
            *measure_products(arguments.repeats),
            *measure_decompositions(max(1, arguments.repeats // 3)),
        ]
    print("| CPU of | ratio | limit | |\n|---|---|---|---|")
    for figure in figures:
        print(figure.row)
    (work / "methods.json").write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    sys.exit(0 if all(figure.holds for figure in figures) else 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="directory for models, states and results")
    parser.add_argument("--preset", default="120m", help="see benchmarks.models")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
