"""How much of a merged task vector is published: one scale for the model, and factors by tensor name.

Every method of the sum family is linear here, ``published = base + scale * factor(name) * merged``, and the merged task
vector of a tensor grows in proportion when all contributions to it do. A factor at export is therefore the same as a
weight on every contribution: statistics do not depend on it. Versions do, so it is part of lineages like all options.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import isfinite, prod
from typing import TypeGuard

from torch import Tensor

from mergenode.errors import UsageError
from mergenode.types import LARGEST_FACTOR, TensorSpec

OWN = "own"
"""The value of option ``scale`` that stands for the method's own choice."""

NORM_MATCH = "norm_match"
"""The published update gets the mean norm of the task vectors that went in: the norm rule of OPCM (Tang et al. 2025,
arXiv 2501.09522, algorithm 1), for every method."""

EVALUATE = "evaluate"
"""The scale at which the published model scores best, see ``scale_search``."""

_LARGEST = f"{LARGEST_FACTOR:.0f}"

CHOSEN_LATER = (NORM_MATCH, EVALUATE)
"""Values of ``scale`` that become a number when a version is exported. Until then ``export`` uses the own scale."""


class ComputedScale(float):
    """A finite scale that was computed, not asked for: update norms that nearly cancel may make it of any size."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """A validated ``scale`` and ``profile``. ``scale``: as asked for; ``amount``: the number that it stands for."""

    scale: float | str
    amount: float
    profile: Mapping[str, float]

    @property
    def options(self) -> Mapping[str, object]:
        """The options as they are recorded; building the method with them gives the same method."""
        return {"scale": self.scale, "profile": dict(self.profile)}

    def of(self, spec: TensorSpec) -> float:
        """Factor of the merged task vector of this tensor: ``scale`` times the factors of all patterns that match.

        A product does not depend on the order in which patterns are written, and narrows step by step.
        """
        return self.amount * profile_factor(spec.name, self.profile.items())

    def publish(self, spec: TensorSpec, base: Tensor, merged: Tensor) -> Tensor:
        """``base + of(spec) * merged``; both of equal shape. ``merged`` is consumed. Rounded twice, never fused."""
        return merged.mul_(self.of(spec)).add_(base)


def profile_factor(name: str, profile: Iterable[tuple[str, float]]) -> float:
    """The product of the factors of all patterns that match a tensor's name; 1 when none does."""
    return prod(factor for pattern, factor in profile if fnmatchcase(name, pattern))


def checked_scaling(method: str, scale: object, own: float, profile: object) -> Scaling:
    """Validates both options; ``own`` is what ``scale: own`` stands for.

    Raises:
        UsageError: scale is neither one of the words above nor a number of at most ``LARGEST_FACTOR`` in size, or
        profile does not map patterns to factors from 0 to that.
    """
    if scale == OWN or scale in CHOSEN_LATER:
        return Scaling(str(scale), own, checked_profile(method, profile))
    if not _is_number(scale) or (abs(scale) > LARGEST_FACTOR and not isinstance(scale, ComputedScale)):
        raise UsageError(
            f"{method}: option 'scale' is {scale!r}",
            hint=f"Give a number from -{_LARGEST} to {_LARGEST}, {', '.join(CHOSEN_LATER)}, or {OWN!r} for the "
            f"method's own, {own:g}.",
        )
    return Scaling(float(scale), float(scale), checked_profile(method, profile))


def checked_profile(method: str, profile: object) -> Mapping[str, float]:
    """Factors by name pattern, sorted by pattern. None: no factors. Raises UsageError, see ``checked_scaling``."""
    if profile is None:
        return {}
    if not isinstance(profile, Mapping):
        raise UsageError(
            f"{method}: option 'profile' is {profile!r}",
            hint='Map name patterns to factors, such as {"*.mlp.*": 0.5}.',
        )
    for pattern, factor in profile.items():
        if not isinstance(pattern, str) or not pattern or not _is_number(factor) or not 0 <= factor <= LARGEST_FACTOR:
            raise UsageError(
                f"{method}: option 'profile' holds {pattern!r}: {factor!r}",
                hint=f"Patterns are non-empty strings like '*.mlp.*', factors are numbers from 0 to {_LARGEST}.",
            )
    return {pattern: float(profile[pattern]) for pattern in sorted(profile)}


def _is_number(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or isfinite(value)
