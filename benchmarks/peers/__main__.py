"""Measure mergenode beside other tools: ``python -m benchmarks.peers --work DIR``.

Installs each tool in its own environment, generates the checkpoints, alternates the runs, compares the
weights, and writes ``DIR/results.md`` and ``DIR/results.json``. ``DIR`` can be deleted afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.models import PRESETS, write_suite
from benchmarks.peers import comparisons, environments
from benchmarks.peers.contests import (
    CONTESTS,
    Contest,
    Entry,
    Suite,
    fusion_bench_command,
    mergekit_command,
    mergenode_command,
)
from benchmarks.peers.measured_process import Usage, measure
from benchmarks.peers.report import as_json, table, verdicts

_REPOSITORY = Path(__file__).parents[2]
_TOOLS = ("mergenode", "mergekit", "fusion_bench")


class Runner:
    """Runs entries one at a time, single-threaded, each into an output directory of its own."""

    def __init__(self, work: Path, suite: Suite, pythons: dict[str, Path]) -> None:
        self._work = work
        self._suite = suite
        self._pythons = pythons
        self._threads = _thread_options() if "mergenode" in pythons else []
        for name in ("outputs", "logs", "home"):
            (work / name).mkdir(exist_ok=True)

    def output(self, entry: Entry) -> Path:
        """Where the entry's last result lies."""
        return self._work / "outputs" / "".join(c if c.isalnum() else "-" for c in entry.label)

    def run(self, contest: Contest, entry: Entry) -> Usage:
        """Measure one run. SystemExit: it failed; the message names its log."""
        output = self.output(entry)
        shutil.rmtree(output, ignore_errors=True)
        log = self._work / "logs" / f"{output.name}.log"
        usage = measure(self.command(contest, entry), environment=self._environment(entry), log=log, cwd=self._work)
        if usage.exit_code != 0:
            raise SystemExit(f"{entry.label} ended with {usage.exit_code}; see {log}")
        return usage

    def command(self, contest: Contest, entry: Entry) -> list[str]:
        """The command line of an entry."""
        python, output = self._pythons[entry.tool], self.output(entry)
        if entry.tool == "mergekit":
            return mergekit_command(python, contest.method, entry, self._suite, output)
        if entry.tool == "fusion_bench":
            return fusion_bench_command(python, self._suite, output)
        options = [*self._threads, *entry.options]
        return mergenode_command([str(python), "-m", "mergenode"], contest.method, options, self._suite, output)

    def _environment(self, entry: Entry) -> dict[str, str]:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._work / "home"),
            **({"PYTHONPATH": str(_REPOSITORY)} if entry.tool == "mergenode" else {}),
            "CUDA_VISIBLE_DEVICES": "",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            **threads,
        }


def main() -> None:
    options = _arguments()
    work: Path = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    tools = tuple(options.tools)
    pythons = {"mergenode": Path(sys.executable)} if "mergenode" in tools else {}
    for environment in (environments.MERGEKIT, environments.FUSION_BENCH):
        if environment.name in tools:
            print(f"environment {environment.name} ...", flush=True)
            pythons[environment.name] = environments.install(environment, work, options.torch_index)
    shape = PRESETS[options.preset]
    models = work / f"models-{options.preset}"
    write_suite(models, shape, fine_tunes=4)
    suite = Suite(models / "base", tuple(models / f"tuned-{number}" for number in range(1, 5)))
    runner = Runner(work, suite, pythons)
    contests = [_of_tools(contest, tools) for contest in CONTESTS if contest.method in options.contests]
    load = [os.getloadavg()[0]]
    samples = _alternate(runner, contests, options.repeats, work / "samples.json")
    load.append(os.getloadavg()[0])
    differences = comparisons.differences(runner, contests, suite)
    facts = {
        "machine": {"cpu": _cpu_model(), "cores": os.cpu_count(), "kernel": platform.release(), "load": load},
        "python": platform.python_version(),
        "versions": {name: environments.versions(python) for name, python in pythons.items()},
        "commit": _commit(),
        "preset": options.preset,
        "parameters": shape.parameters(),
        "repeats": options.repeats,
    }
    _write(work, facts, contests, samples, differences)


def _alternate(runner: Runner, contests: Sequence[Contest], repeats: int, kept: Path) -> dict[str, list[Usage]]:
    """Every entry once, then every entry again: a change of the machine's load meets all of them.

    ``kept`` holds what was measured so far, should a later run fail.
    """
    samples: dict[str, list[Usage]] = {}
    for repeat in range(1, repeats + 1):
        for contest in contests:
            for entry in contest.entries:
                usage = runner.run(contest, entry)
                samples.setdefault(entry.label, []).append(usage)
                kept.write_text(json.dumps(as_json(samples), indent=2) + "\n")
                print(f"{repeat}/{repeats} {entry.label}: {usage.cpu_seconds:.1f} CPU s, "
                      f"{usage.wall_seconds:.1f} s, {usage.peak_rss_mib:.0f} MiB", flush=True)  # fmt: skip
    return samples


def _write(
    work: Path,
    facts: dict[str, object],
    contests: Sequence[Contest],
    samples: dict[str, list[Usage]],
    differences: Sequence[comparisons.Difference],
) -> None:
    judged = verdicts(contests, samples)
    lines = [table(contests, samples), ""]
    for verdict in judged:
        lines.append(
            f"- {verdict.contest} against {verdict.peer}: CPU {verdict.cpu_ratio:.2f} (at most "
            f"{verdict.cpu_limit}), RSS {verdict.memory_ratio:.2f} (at most {verdict.memory_limit}): "
            f"{'met' if verdict.met else 'NOT met'}"
        )
    lines += ["", *(f"- {d.what}: {d.value:.2e}. {d.explanation}" for d in differences)]
    text = "\n".join(lines) + "\n"
    (work / "results.md").write_text(text)
    result = {**facts, "runs": as_json(samples), "differences": [d.as_json() for d in differences]}
    (work / "results.json").write_text(json.dumps(result, indent=2) + "\n")
    print("\n" + text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="environments, models, outputs and results go here")
    parser.add_argument("--preset", choices=PRESETS, default="120m")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tools", nargs="+", choices=_TOOLS, default=_TOOLS)
    parser.add_argument(
        "--contests", nargs="+", choices=[c.method for c in CONTESTS], default=[c.method for c in CONTESTS]
    )
    parser.add_argument("--torch-index", help="package index with CPU builds of torch, where the default has none")
    return parser.parse_args()


def _of_tools(contest: Contest, tools: Sequence[str]) -> Contest:
    entries = tuple(entry for entry in contest.entries if entry.tool in tools)
    return Contest(contest.method, entries, contest.targets)


def _thread_options() -> list[str]:
    """``--threads 1`` where ``mergenode merge`` has the option. SystemExit: it does not start."""
    command = [sys.executable, "-m", "mergenode", "merge", "--help"]
    shown = subprocess.run(command, check=False, text=True, capture_output=True, cwd=_REPOSITORY)
    if shown.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{shown.stderr}")
    return ["--threads", "1"] if "--threads" in shown.stdout else []


def _commit() -> str:
    """The commit that was measured, marked when files differ from it; empty outside a git checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, check=False, text=True, capture_output=True, cwd=_REPOSITORY).stdout.strip()


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
