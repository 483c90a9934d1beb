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
    from benchmarks.peers.compare_weights import relative_difference

    theirs = next((e for e in contest.entries if e.tool == "fusion_bench"), None)
    if theirs is None:
        return
    for entry in contest.entries:
        if entry.tool != "mergenode":
            continue
        exact = Entry(entry.tool, f"{entry.label}, float32", (*entry.options, "--dtype", "float32"))
        runs.run(contest, exact)
        value = relative_difference(runs.output(exact), runs.output(theirs), suite.base)
        yield Difference(f"{exact.label} against {theirs.label}", value, _why(entry))


def _why(entry: Entry) -> str:
    if "variant=diagonal" in entry.options:
        return (
            "The same algorithm: leading block and whole diagonal removed, embeddings and norms summed "
            "plainly. What is left is rounding in the float32 decomposition; the variant depends on single "
            "singular vectors, so the difference grows with every fold."
        )
    return "Another variant: only the leading block is removed; theirs removes the whole diagonal too."
