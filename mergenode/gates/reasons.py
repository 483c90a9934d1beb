"""Why a gate speaks. Closed, like ``errors.RejectReason``: ledger, metrics and documentation use these codes."""

from __future__ import annotations

from enum import StrEnum


class GateReason(StrEnum):
    """One code per thing that a gate can find. ``not_finite`` is the code of the hard check of the fold, too."""

    NOT_FINITE = "not_finite"
    NORM_ABOVE_MEDIAN = "norm_above_median"
    AGAINST_THE_MERGE = "against_the_merge"
    LITTLE_IS_KEPT = "little_is_kept"
    FEW_DIRECTIONS = "few_directions"
    SIGNS_OPPOSE = "signs_oppose"
    FROZEN_CHANGED = "frozen_changed"
    SCORE_FELL = "score_fell"
    SCORE_MISSING = "score_missing"
    UPHILL = "uphill"
    SIGNATURE_MISSING = "signature_missing"
    SIGNATURE_INVALID = "signature_invalid"
    SIGNATURE_UNTRUSTED = "signature_untrusted"
