"""A task vector is not much longer than those of the members of the running merge."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from statistics import median

from mergenode.gates.contract import Finding, Gate, failed, not_finite, passed, silent
from mergenode.gates.evidence import WHOLE, Evidence, Need
from mergenode.gates.reasons import GateReason

NORMAL = 1.4826
"""Standard deviation over median absolute deviation of normal numbers (Rousseeuw and Croux 1993)."""

SMALL_GROUP = 0.05
"""Groups whose median is below this share of the whole model's are not judged: most members leave them alone."""


def norm(
    *,
    max_ratio: float = 5.0,
    max_deviations: float = 6.0,
    max_group_ratio: float | None = 20.0,
    min_members: int = 3,
) -> Gate:
    """||tau|| is at most max(ratio * median, median + deviations * spread) of the members' norms.

    Median and spread (``NORMAL`` times the median absolute deviation) do not move while fewer than half of the members
    lie. Both limits have to be passed, so that neither the few nor the varied members of an honest merge set a trap.

    Args:
        max_ratio: of the norm to the median.
        max_deviations: robust standard deviations above the median.
        max_group_ratio: of the norm of a layer group to the median of that group; None: groups are not judged.
        min_members: with fewer members the gate is silent.
    """

    def judge(evidence: Evidence) -> Finding:
        whole = evidence.whole
        if whole is None:
            return silent("norm", "the norm was not measured")
        if not isfinite(whole.norm):
            return not_finite("norm", "the norm of the update", whole.norm)
        history = [value for value in evidence.history.get(WHOLE, ()) if isfinite(value)]
        if len(history) < max(1, min_members):
            return silent("norm", f"the running merge has {len(history)} members, {max(1, min_members)} are needed")
        middle, limit = limit_of(history, max_ratio, max_deviations)
        numbers = {
            "norm": whole.norm, "median": middle, "limit": limit, "members": float(len(history)),
            "max_ratio": max_ratio, "max_deviations": max_deviations,
        }  # fmt: skip
        if whole.norm > limit:
            message = (
                f"the norm of the update is {whole.norm:.4g}, {_times(whole.norm, middle)} the median {middle:.4g} "
                f"of {len(history)} member{'s' if len(history) > 1 else ''}; the limit is {limit:.4g}"
            )
            return failed("norm", GateReason.NORM_ABOVE_MEDIAN, message, _HINT, numbers)
        if max_group_ratio is None:
            return passed("norm", numbers)
        return _groups(evidence, middle, max_group_ratio, max(1, min_members), numbers)

    options = {
        "max_ratio": max_ratio, "max_deviations": max_deviations,
        "max_group_ratio": max_group_ratio, "min_members": min_members,
    }  # fmt: skip
    return Gate(name="norm", needs=frozenset({Need.NORMS, Need.HISTORY}), judge=judge, options=options)


_HINT = (
    "Was the learning rate too high, or the update scaled? Push an earlier checkpoint, or release it if it is meant."
)


def limit_of(history: Sequence[float], ratio: float, deviations: float) -> tuple[float, float]:
    """The median of norms (finite, at least one) and the largest norm that passes."""
    middle = median(history)
    spread = NORMAL * median(abs(value - middle) for value in history)
    return middle, max(ratio * middle, middle + deviations * spread)


def _groups(evidence: Evidence, whole_median: float, ratio: float, members: int, numbers: dict[str, float]) -> Finding:
    worst, worst_ratio, worst_median = "", 0.0, 0.0
    for name, group in evidence.groups.items():
        history = [value for value in evidence.history.get(name, ()) if isfinite(value)]
        if name == WHOLE or len(history) < members:
            continue
        middle = median(history)
        if middle <= SMALL_GROUP * whole_median:
            continue
        if not isfinite(group.norm):
            return not_finite("norm", f"the norm of the update of {name!r}", group.norm)
        if group.norm / middle > worst_ratio:
            worst, worst_ratio, worst_median = name, group.norm / middle, middle
    if not worst:
        return passed("norm", numbers)
    numbers = {**numbers, "group_ratio": worst_ratio, "max_group_ratio": ratio}
    if worst_ratio <= ratio:
        return passed("norm", numbers)
    message = (
        f"the norm of the update of {worst!r} is {worst_ratio:.4g} times the median {worst_median:.4g} of the members; "
        f"the limit is {ratio:.4g} times"
    )
    return failed("norm", GateReason.NORM_ABOVE_MEDIAN, message, _HINT, numbers)


def _times(value: float, middle: float) -> str:
    return f"{value / middle:.3g} times" if middle else "above"
