"""One merge at several scales, without folding or decomposing anything again.

The export of every method with an option ``scale`` is linear in it: ``published = base + c M``, with M the merged task
vector at scale 1, factors by name applied. So M is computed once, its norm says what the norm rule would choose, and
any other scale is one multiplication and one addition per element.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from torch import Tensor

from mergenode.methods import build_method
from mergenode.methods.contract import Method, Statistics
from mergenode.methods.scaling import CHOSEN_LATER, OWN, ComputedScale
from mergenode.types import TensorSpec

MAGNIFICATION = 2.0**20
"""The scale at which M is read off an export: large enough that rounding of the base does not show in M, small enough
that no finite update overflows that a node accepts."""


def takes_scale(method: Method) -> bool:
    """Whether the method has an option ``scale``; the others choose their own from the totals."""
    return "scale" in method.options


def asked_scale(method: Method) -> object:
    """Option ``scale`` as it was asked for: a number, or one of the words of ``scaling``."""
    return method.options.get("scale", OWN)


def at_scale(method: Method, scale: float) -> Method:
    """The same method with a number as its scale: same statistics, same totals, another ``export``.

    Raises UsageError when the method has no such option.
    """
    return build_method(method.name, {**method.options, "scale": ComputedScale(scale)})


def scale_in_use(method: Method, totals: Mapping[str, float]) -> float:
    """The factor of M in what ``method.export`` returns."""
    asked = asked_scale(method)
    return float(asked) if isinstance(asked, (int, float)) else method.own_scale(totals)


def is_chosen_later(method: Method) -> bool:
    """Whether the scale becomes a number only when a version is exported."""
    return asked_scale(method) in CHOSEN_LATER


def merged_update(
    magnified: Method, spec: TensorSpec, statistics: Statistics, base: Tensor, totals: Mapping[str, float]
) -> Tensor:
    """M of one tensor or slice: a new tensor of the shape and dtype of ``base``.

    ``magnified``: the method ``at_scale`` MAGNIFICATION. Of base + 2^20 M, rounded, base is subtracted again: what is
    left differs from 2^20 M by two roundings, and from what rounding did to the base by a millionth of it.
    """
    exported = magnified.export(spec, statistics, base, totals)
    return (exported - base).div_(MAGNIFICATION)


def mean_norm(totals: Mapping[str, float]) -> float | None:
    """Mean of the whole-model norms of the task vectors folded so far, weights applied; None before the first."""
    count = totals.get("count", 0.0)
    return totals["norm_sum"] / count if count > 0 and "norm_sum" in totals else None


def norm_rule(totals: Mapping[str, float], norm: float) -> float | None:
    """The scale that gives an update whose ``norm`` at scale 1 is known the mean norm of the task vectors.

    None when there is none: nothing was folded, the task vectors cancel, or the quotient overflows.
    """
    wanted = mean_norm(totals)
    scale = wanted / norm if wanted is not None and norm > 0 else None
    return scale if scale is not None and isfinite(scale) else None
