"""A task vector does not point against the running merge, and something of it enters."""

from __future__ import annotations

from math import isfinite

from mergenode.gates.contract import Finding, Gate, failed, not_finite, passed, silent
from mergenode.gates.evidence import Evidence, Need
from mergenode.gates.reasons import GateReason


def alignment(*, min_cosine: float | None = -0.1, min_share_kept: float | None = 0.05) -> Gate:
    """cos(tau, merge) and, where the method projects, ||kept|| / ||tau|| are not below their bounds.

    Honest task vectors are nearly orthogonal to each other or share a direction; one that was turned around is not.

    Args:
        min_cosine: in [-1, 1]; None: not judged.
        min_share_kept: in [0, 1]; None: not judged.
    """
    bounds = {
        "cosine": (min_cosine, GateReason.AGAINST_THE_MERGE, "the cosine of the update and the running merge"),
        "share_kept": (min_share_kept, GateReason.LITTLE_IS_KEPT, "the share of the update that the projection keeps"),
    }

    def judge(evidence: Evidence) -> Finding:
        whole = evidence.whole
        if not evidence.merged:
            return silent("alignment", "there is no running merge to compare with yet")
        numbers: dict[str, float] = {}
        for name, (bound, reason, what) in bounds.items():
            value: float | None = getattr(whole, name, None)
            if bound is None or value is None:
                continue
            if not isfinite(value):
                return not_finite("alignment", what, value)
            numbers |= {name: value, f"min_{name}": bound}
            if value < bound:
                return failed("alignment", reason, f"{what} is {value:.4g}; the limit is {bound:.4g}", _HINT, numbers)
        if not numbers:
            return silent("alignment", "neither cosine nor share kept is known: it depends on the merge method")
        return passed("alignment", numbers)

    needs = {Need.MERGE} if min_cosine is not None else set()
    if min_share_kept is not None:
        needs.add(Need.KEPT)
    options = {"min_cosine": min_cosine, "min_share_kept": min_share_kept}
    return Gate(name="alignment", needs=frozenset(needs), judge=judge, options=options)


_HINT = "Look at what it was trained for: it undoes what the others learnt. Release it if that is meant."
