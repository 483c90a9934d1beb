"""The merge that would come of it is not worse at what it can do already."""

from __future__ import annotations

from math import isfinite

from mergenode.gates.contract import Finding, Gate, failed, passed, silent
from mergenode.gates.evidence import Evidence, Need
from mergenode.gates.reasons import GateReason


def evaluation(*, max_drop: float = 0.05) -> Gate:
    """No score of the running merge falls by more than ``max_drop`` when the contribution enters; higher is better.

    A score that is gone or is no number afterwards fails; one that is new is not judged, nor one that was no number
    before.

    Args:
        max_drop: in units of the scores, at least 0.
    """

    def judge(evidence: Evidence) -> Finding:
        before, after = evidence.scores_before, evidence.scores_after
        if before is None or after is None:
            return silent("evaluation", "there are no scores to compare")
        judged = {name: score for name, score in before.items() if isfinite(score)}
        if not judged:
            return silent("evaluation", "the running merge has no scores yet")
        for name, score in judged.items():
            lost = _lost(name, score, after.get(name), max_drop)
            if lost is not None:
                return lost
        worst = max(judged, key=lambda name: judged[name] - after[name])
        drop = judged[worst] - after[worst]
        numbers = {"before": judged[worst], "after": after[worst], "drop": drop, "max_drop": max_drop}
        if drop <= max_drop:
            return passed("evaluation", numbers, f"the score that fares worst is {worst!r}")
        message = (
            f"the score {worst!r} would fall by {drop:.4g}, from {judged[worst]:.4g} to {after[worst]:.4g}; "
            f"the limit is {max_drop:.4g}"
        )
        return failed("evaluation", GateReason.SCORE_FELL, message, _HINT, numbers)

    options = {"max_drop": max_drop}
    return Gate(name="evaluation", needs=frozenset({Need.SCORES}), judge=judge, options=options)


_HINT = "Fold it with a smaller weight (`mergenode commit --weight`), or release it if what it adds is worth the loss."


def _lost(name: str, before: float, after: float | None, max_drop: float) -> Finding | None:
    """The finding when a score is no number afterwards."""
    if after is None:
        message = f"the score {name!r} is missing after the fold"
        return failed("evaluation", GateReason.SCORE_MISSING, message, _HINT, {"before": before, "max_drop": max_drop})
    if isfinite(after):
        return None
    message = f"the score {name!r} is {after} after the fold, it was {before:.4g}"
    numbers = {"before": before, "after": after, "max_drop": max_drop}
    return failed("evaluation", GateReason.NOT_FINITE, message, _HINT, numbers)
