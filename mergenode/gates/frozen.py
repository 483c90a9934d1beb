"""Parts of the model that nobody may touch are the base's, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

from mergenode.gates.contract import Finding, Gate, failed, passed, silent
from mergenode.gates.evidence import Evidence, Need
from mergenode.gates.reasons import GateReason


def frozen(*, patterns: Sequence[str] = ()) -> Gate:
    """Tensors whose names match one of the patterns hold the bytes of the base, as FlexOlmo asserts (arXiv 2507.07024).

    Args:
        patterns: shell patterns of tensor names, upper and lower case apart.
    """
    chosen = tuple(patterns)

    def judge(evidence: Evidence) -> Finding:
        if not chosen:
            return silent("frozen", "no pattern names a frozen tensor")
        if evidence.frozen_changed is None:
            return silent("frozen", "the frozen tensors were not compared")
        count = max(evidence.frozen_changed_count, len(evidence.frozen_changed))
        numbers = {"changed": float(count)}
        if not count:
            return passed("frozen", numbers)
        names = ", ".join(map(repr, evidence.frozen_changed[:3]))
        return failed(
            "frozen",
            GateReason.FROZEN_CHANGED,
            f"{count} tensors that are frozen differ from the base: {names}",
            "Train with these tensors frozen, and save them in the base's element type.",
            numbers,
        )

    return Gate(
        name="frozen",
        needs=frozenset({Need.FROZEN}) if chosen else frozenset(),
        judge=judge,
        options={"patterns": chosen},
        patterns=chosen,
    )
