"""A version whose numbers are not finite is no version: it is called off before anything says that it exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

from mergenode.errors import UsageError
from mergenode.maths.norms import exact_total
from mergenode.methods.contract import Method
from mergenode.methods.rescale import scale_in_use
from mergenode.methods.scaling import profile_factor


def require_finite(method: Method, totals: Mapping[str, float], squares: Mapping[str, Sequence[float]]) -> None:
    """Refuse a merge one of whose updates is not finite, or has no finite norm.

    ``squares``: per tensor the squared norms of the slices of its update. A value that is not finite shows in them.

    Raises:
        UsageError: the message names tensor, method and factors. Contributions that could do it alone were rejected.
    """
    parts = {name: exact_total(each) for name, each in squares.items()}
    if isfinite(exact_total(list(parts.values()))):
        return
    name = next((name for name, square in parts.items() if not isfinite(square)), None) or max(
        parts, key=parts.__getitem__
    )
    profile = method.options.get("profile")
    factor = profile_factor(name, profile.items()) if isinstance(profile, Mapping) else 1.0
    raise UsageError(
        f"tensor {name!r} of the merge is not finite, or too large for a finite norm: method {method.name}, scale "
        f"{scale_in_use(method, totals):g}, factor {factor:g} by profile",
        hint="Nothing was published. Choose smaller factors (options scale and profile of the method, weights of the "
        "contributions); a node keeps its options, so give it a new node.state too.",
    )
