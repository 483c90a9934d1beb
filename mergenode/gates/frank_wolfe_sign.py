"""A step towards the contribution goes downhill on the operator's objective."""

from __future__ import annotations

from math import isfinite

from mergenode.gates.contract import Finding, Gate, failed, not_finite, passed, silent
from mergenode.gates.evidence import Evidence, Need
from mergenode.gates.reasons import GateReason


def frank_wolfe_sign(*, max_cosine: float = 0.0) -> Gate:
    """<g, tau> / (||g|| ||tau||) < max_cosine, with g the gradient of the objective at the running merge.

    With 0 this is the sign of the Frank-Wolfe score: a vertex is worth a step only when it is negative (Frank-Wolfe
    merging, arXiv 2503.12649, eq. 3, whose score is that of tau here, not of its difference to the merge).

    Args:
        max_cosine: in [-1, 1]; the cosine has to be below it.
    """

    def judge(evidence: Evidence) -> Finding:
        descent = evidence.descent
        if descent is None:
            return silent("frank_wolfe_sign", "there is no gradient of the objective")
        scale = descent.gradient_norm * descent.delta_norm
        cosine = descent.inner / scale if scale else 0.0
        for what, value in (
            ("the norm of the gradient", descent.gradient_norm),
            ("the norm of the update", descent.delta_norm),
            ("the inner product with the gradient", descent.inner),
            ("the cosine of gradient and update", cosine),
        ):
            if not isfinite(value):
                return not_finite("frank_wolfe_sign", what, value)
        if not scale:
            return silent("frank_wolfe_sign", "the gradient or the update is zero: there is no slope")
        numbers = {"cosine": cosine, "inner": descent.inner, "max_cosine": max_cosine}
        if cosine < max_cosine:
            return passed("frank_wolfe_sign", numbers)
        message = (
            f"the update and the gradient of the objective have the cosine {cosine:.4g}; it has to be below "
            f"{max_cosine:.4g} for a step to make the loss smaller"
        )
        hint = "It does not serve this objective. Release it if that is not what it was pushed for."
        return failed("frank_wolfe_sign", GateReason.UPHILL, message, hint, numbers)

    options = {"max_cosine": max_cosine}
    return Gate(name="frank_wolfe_sign", needs=frozenset({Need.DESCENT}), judge=judge, options=options)
