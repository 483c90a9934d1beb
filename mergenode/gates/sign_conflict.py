"""A task vector does not push most weights against where the running merge moved them."""

from __future__ import annotations

from math import isfinite

from mergenode.gates.contract import Finding, Gate, failed, not_finite, passed, silent
from mergenode.gates.evidence import Evidence, Need
from mergenode.gates.reasons import GateReason


def sign_conflict(*, max_share: float = 0.6) -> Gate:
    """Of the sum of |tau| over the entries that the merge moved, the share whose sign opposes it is bounded.

    Independent task vectors give one half; the signs that TIES elects (Yadav et al., arXiv 2306.01708, section 3) are
    those of the merge, here without trimming.

    Args:
        max_share: in [0, 1].
    """

    def judge(evidence: Evidence) -> Finding:
        share = evidence.whole.sign_conflict if evidence.whole else None
        if share is None:
            why = "the signs were not compared" if evidence.merged else "there is no running merge to compare with yet"
            return silent("sign_conflict", why)
        if not isfinite(share):
            return not_finite("sign_conflict", "the share of opposing signs", share)
        numbers = {"share": share, "max_share": max_share}
        if share <= max_share:
            return passed("sign_conflict", numbers)
        message = f"{share:.4g} of the update opposes the signs of the running merge; the limit is {max_share:.4g}"
        hint = "Look at what it was trained for: it undoes what the others learnt. Release it if that is meant."
        return failed("sign_conflict", GateReason.SIGNS_OPPOSE, message, hint, numbers)

    options = {"max_share": max_share}
    return Gate(name="sign_conflict", needs=frozenset({Need.SIGNS}), judge=judge, options=options)
