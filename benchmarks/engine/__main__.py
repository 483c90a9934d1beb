"""``python -m benchmarks.engine``: the figures of the streaming engine, each beside its reference, run alternately."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from statistics import median

from benchmarks.engine.node import fold_command, fold_traffic, publish_latency
from benchmarks.models import main as generate
from benchmarks.peers.measured_process import Usage, measure

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = 4


@dataclass(frozen=True, slots=True)
class Figure:
    """One claim: ``value`` is ours over the reference, to stay at or below ``limit``."""

    name: str
    value: float
    limit: float
    detail: str

    @property
    def holds(self) -> bool:
        return self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Bench:
    """Where models lie and where outputs go."""

    models: Path
    work: Path
    repeats: int

    @property
    def tuned(self) -> list[str]:
        return [str(self.models / f"tuned-{number}") for number in range(1, MODELS + 1)]

    def run(self, name: str, command: Callable[[Path], Sequence[str]]) -> Usage:
        """Run one command into a fresh output directory; the output is removed afterwards."""
        output = self.work / "output"
        shutil.rmtree(output, ignore_errors=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
        usage = measure(command(output), environment=environment, log=self.work / f"{name}.log", cwd=self.work)
        if usage.exit_code:
            sys.exit(f"{name} failed: see {self.work / f'{name}.log'}")
        shutil.rmtree(output, ignore_errors=True)
        return usage

    def alternate(self, **commands: Callable[[Path], Sequence[str]]) -> dict[str, list[Usage]]:
        """One uncounted round, then ``repeats`` rounds of all commands in turn."""
        samples: dict[str, list[Usage]] = {name: [] for name in commands}
        for number in range(self.repeats + 1):
            for name, command in commands.items():
                usage = self.run(name, command)
                if number:
                    samples[name].append(usage)
        return samples

    def merge(self, method: str, *options: str) -> Callable[[Path], Sequence[str]]:
        base = str(self.models / "base")
        return lambda output: [
            sys.executable, "-m", "mergenode", "merge", "--base", base, "--output", str(output), "--method", method,
            "--threads", "1", *options, *self.tuned,
        ]  # fmt: skip

    def plain(self, output: Path) -> Sequence[str]:
        return [sys.executable, "-m", "benchmarks.engine.plain_average", str(output), *self.tuned]


def main() -> None:
    """Measure, print a table, write JSON; exit 1 when a figure is above its limit."""
    arguments = _arguments()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    models = work / f"models-{arguments.preset}"
    if not (models / f"tuned-{MODELS}" / "config.json").exists():
        generate(["--preset", arguments.preset, "--out", str(models), "--fine-tunes", str(MODELS), "--seed", "0"])
    bench = Bench(models, work, arguments.repeats)
    figures = [*_against_a_plain_loop(bench), *_statistics_traffic(bench), *_latency(bench), *_memory(bench)]
    print("| figure | measured | limit | |\n|---|---|---|---|")
    for figure in figures:
        print(f"| {figure.name} | {figure.value:.3f} | {figure.limit:.2f} | {figure.detail} |")
    (work / "engine.json").write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    sys.exit(0 if all(figure.holds for figure in figures) else 1)


def _against_a_plain_loop(bench: Bench) -> list[Figure]:
    samples = bench.alternate(average=bench.merge("average"), plain=bench.plain)
    cpu, spread = _cpu_ratio(samples, "average", "plain")
    memory = _peak(samples["average"]) / _peak(samples["plain"])
    anonymous = median(usage.peak_anon_mib for usage in samples["average"])
    return [
        Figure("streamed average / plain load_file loop, CPU", cpu, 1.0, spread),
        Figure("streamed average / plain load_file loop, peak RSS", memory, 1.0, f"ours {anonymous:.0f} MiB anonymous"),
    ]


def _statistics_traffic(bench: Bench) -> list[Figure]:
    no_projection = bench.merge("opcm", "--set", 'exclude=["*"]')
    samples = bench.alternate(opcm=no_projection, average=bench.merge("average"))
    cpu, spread = _cpu_ratio(samples, "opcm", "average")
    traffic = fold_traffic(bench.models, bench.work / "traffic")
    return [
        Figure("opcm without projection / streamed average, CPU", cpu, 2.2, spread),
        Figure(
            "bytes of a fold and a publish / 20 per parameter", traffic / 20, 1.05, f"{traffic:.2f} bytes per parameter"
        ),
    ]


def _latency(bench: Bench) -> list[Figure]:
    ratios, shown = [], []
    for number in range(bench.repeats):
        node = publish_latency(bench.models, bench.work / f"node-{number}")
        once = bench.run("merge", lambda output: [*bench.merge("opcm")(output)[:-MODELS], bench.tuned[0]])
        ratios.append(node / once.wall_seconds)
        shown.append(f"{node:.1f} s of {once.wall_seconds:.1f} s")
        shutil.rmtree(bench.work / f"node-{number}")
    return [
        Figure("committed to visible / one-shot merge of the same fold, wall", median(ratios), 1.2, ", ".join(shown))
    ]


def _memory(bench: Bench) -> list[Figure]:
    specs = [spec for file in sorted((bench.models / "base").glob("*.safetensors")) for spec in _shapes(file)]
    largest = max(prod(shape) for shape in specs) * 4 / 2**20
    figures = []
    for method, limit in (("average", 350.0), ("opcm", 10 * largest + 250)):
        peaks = []
        for count in (2, MODELS):
            folder = bench.work / "memory"
            command = fold_command(bench.models, folder, method, count)
            peaks.append(bench.run(f"memory-{method}", lambda _, command=command: command).peak_anon_mib)
            shutil.rmtree(folder)
        detail = f"{peaks[0]:.0f} MiB after 2 contributions, {peaks[1]:.0f} after {MODELS}; limit {limit:.0f} MiB"
        figures.append(Figure(f"anonymous memory of folds, {method}", max(peaks) / limit, 1.0, detail))
    return figures


def _shapes(file: Path) -> list[list[int]]:
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return [entry["shape"] for name, entry in header.items() if name != "__metadata__"]


def _cpu_ratio(samples: dict[str, list[Usage]], ours: str, theirs: str) -> tuple[float, str]:
    pairs = [a.cpu_seconds / b.cpu_seconds for a, b in zip(samples[ours], samples[theirs], strict=True)]
    a, b = (median(usage.cpu_seconds for usage in samples[name]) for name in (ours, theirs))
    return median(pairs), f"{a:.2f} s of {b:.2f} s; pairs {min(pairs):.2f} to {max(pairs):.2f}"


def _peak(usages: Sequence[Usage]) -> float:
    return median(usage.peak_rss_mib for usage in usages)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="directory for models and outputs")
    parser.add_argument("--preset", default="0.5b-untied", help="see benchmarks.models")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
