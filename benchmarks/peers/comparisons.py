"""Do the tools agree? What each pair of results differs by, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.peers.contests import SCALE, Contest, Entry, Suite


@dataclass(frozen=True, slots=True)
class Difference:
    """``value`` is relative to the Frobenius norm of the merged update."""

    what: str
    value: float
    explanation: str

    def as_json(self) -> dict[str, object]:
        return asdict(self)


class Runs(Protocol):
    """Runs entries and knows where their results lie."""

    def run(self, contest: Contest, entry: Entry) -> object: ...

    def output(self, entry: Entry) -> Path: ...


def differences(runs: Runs, contests: Sequence[Contest], suite: Suite) -> list[Difference]:
    """Compare the last result of every entry; OPCM is merged once more in float32 for it, not measured."""
    found: list[Difference] = []
    for contest in contests:
        if contest.method == "opcm":
            found += _against_fusion_bench(runs, contest, suite)
        elif contest.method in ("average", "task_arithmetic"):
            found += _against_the_exact_sum(runs, contest, suite)
    return found


def _against_the_exact_sum(runs: Runs, contest: Contest, suite: Suite) -> Iterator[Difference]:
    from benchmarks.peers.compare_weights import error_of_sum, rounding_of_sum

    scale = 1 / len(suite.models) if contest.method == "average" else SCALE
    floor = rounding_of_sum(suite.base, suite.models, scale)
    yield Difference(f"exact {contest.method} rounded to bf16", floor, "No bf16 file can be closer.")
    for entry in contest.entries:
        error = error_of_sum(runs.output(entry), suite.base, suite.models, scale)
        yield Difference(f"{entry.label} against the exact sum", error, "bf16 output.")


def _against_fusion_bench(runs: Runs, contest: Contest, suite: Suite) -> Iterator[Difference]:
    from benchmarks.peers.compare_weights import norm_error, relative_difference

    theirs = next((e for e in contest.entries if e.tool == "fusion_bench"), None)
    if theirs is None:
        return
    norm = norm_error(runs.output(theirs), suite.base, suite.models)
    yield Difference(f"length of {theirs.label}, off by", norm, "It sums the squares of the model in float32.")
    for entry in contest.entries:
        if entry.tool != "mergenode":
            continue
        exact = Entry(entry.tool, f"{entry.label}, float32", (*entry.options, "--dtype", "float32"))
        runs.run(contest, exact)
        value = relative_difference(runs.output(exact), runs.output(theirs), suite.base)
        yield Difference(f"{exact.label} against {theirs.label}", value, _why(entry))
        norm = norm_error(runs.output(exact), suite.base, suite.models)
        yield Difference(f"length of {exact.label}, off by", norm, "Sums in float64.")


def _why(entry: Entry) -> str:
    if "variant=diagonal" in entry.options:
        return (
            "The same projection of the same weights. Left: their length (see there), and the few singular pairs "
            "below float32 accuracy, which we leave unpaired and they pair as rounding has it."
        )
    return "Another variant: only the leading block is removed; theirs removes the whole diagonal too."
