"""What a selector works on: vertices, their scores, barycentric weights, and what it asks of the world.

The hull has the base and every candidate of the pool as vertices, each candidate known by the digest of its content:
theta = base + sum_i w_i tau_i with tau_i = theta_i - base, w_i >= 0 and sum_i w_i <= 1. The base has the rest of the
weight and is never written down. Weights are kept per layer group; for the whole model there is the one group ``*``.

All that Frank-Wolfe needs of the models are the numbers a_i = <g, tau_i>, with g the gradient of the objective at
theta: <g, theta_i - theta> = a_i - sum_j w_j a_j. The base has a = 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import fsum, inf
from typing import Final, Literal, Protocol, get_args

from mergenode.errors import UsageError

WHOLE: Final = "*"
"""The one group of a selection that is made for the whole model."""

BASE: Final = "base"
"""The base, where a vertex is named. Never a key of weights or of scores: no digest is written like this."""

NOTHING: Final = 1e-12
"""The base has lost its weight when less than this is left for it: weights are sums with rounding."""

LARGEST: Final = 1e100
"""Scores beyond this are refused like infinities: sums and products of them would overflow."""

Weights = Mapping[str, Mapping[str, float]]
"""Group -> content -> weight in (0, 1]; below 1 in all, the base has the rest."""

Scores = Mapping[str, Mapping[str, float]]
"""Content -> group -> <g, tau_i> over the tensors of the group, in loss units. Of a group left out, tau_i is zero."""

Vanished = Literal["base", "renormalised"]
"""Who gets the weight of vertices that go: the base, or all that stay (the base too) in proportion to their weights."""

Need = Literal["scores", "losses", "distances"]
Variant = Literal["plain", "away", "pairwise"]
Step = Literal["schedule", "short", "line"]


@dataclass(frozen=True, slots=True)
class State:
    """The barycentric weights and how many rounds led to them. All that has to be kept between rounds."""

    weights: Weights = field(default_factory=dict)
    round: int = 0

    def of(self, group: str) -> Mapping[str, float]:
        """The weights of one group; empty where the base has everything."""
        return self.weights.get(group, {})

    def vertices(self) -> frozenset[str]:
        """Every content that has weight in some group."""
        return frozenset(vertex for weights in self.weights.values() for vertex in weights)


def base_weight(weights: Mapping[str, float]) -> float:
    """What the weights of one group leave for the base: 0 where it is no more than rounding."""
    rest = 1.0 - fsum(weights.values())
    return rest if rest >= NOTHING else 0.0


class Why(StrEnum):
    """What one round says of a candidate. Closed, for tables and metrics."""

    CHOSEN = "chosen"  # the best vertex of at least one group: gains weight
    AWAY = "away"  # the worst vertex that has weight in a group, and chosen nowhere: loses weight
    HELD = "held"  # has weight, and this round moves others
    OUTDONE = "outdone"  # would lower the objective, another vertex lowers it more
    USELESS = "useless"  # going there does not lower the objective
    REFUSED = "refused"  # a score that is no number, or beyond all measure


class Stop(StrEnum):
    """Why a selection ended. Closed."""

    GAP = "gap"  # the duality gap is within the tolerance
    NO_DESCENT = "no_descent"  # no point that was tried has a lower loss
    ROUNDS = "rounds"  # the limit of rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to select.

    ``variant``: ``plain`` moves towards the best vertex; ``away`` may instead take weight off the worst one that has
    some; ``pairwise`` hands weight from the worst to the best. ``step``: ``schedule`` is 2 / (round + 2) and only for
    ``plain``; ``short`` needs ``smoothness``, the Lipschitz constant of the gradient; ``line`` asks for losses.
    ``soft``: how many best vertices join in one round (1: Frank-Wolfe), ``inner``: projected gradient steps that
    then fit all weights; ``variant`` means nothing then. ``tolerance``: of the duality gap, in loss units.
    """

    variant: Variant = "away"
    step: Step = "line"
    by_group: bool = False
    soft: int = 1
    inner: int = 10
    smoothness: float | None = None
    tolerance: float = 1e-3
    rounds: int = 20

    def __post_init__(self) -> None:
        _one_of("variant", self.variant, get_args(Variant))
        _one_of("step", self.step, get_args(Step))
        for name in ("soft", "inner", "rounds"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, it has to be at least 1")
        if not 0.0 <= self.tolerance < inf:
            raise UsageError(f"tolerance is {self.tolerance}, it has to be a number from 0 on")
        if self.step == "schedule" and self.variant != "plain":
            raise UsageError(
                f"variant {self.variant!r} does not go with step 'schedule'",
                hint="Steps that take weight off need step 'line' or 'short'; or choose variant 'plain'.",
            )
        if self.step == "short" and not (self.smoothness is not None and 0.0 < self.smoothness < inf):
            raise UsageError("step 'short' needs smoothness, above 0", hint="Without it, use step 'line'.")
        if self.soft > 1 and self.step != "line":
            raise UsageError(f"soft {self.soft} does not go with step {self.step!r}", hint="Use step 'line'.")

    @property
    def needs(self) -> frozenset[Need]:
        """What the oracle is asked for."""
        asked: dict[str, frozenset[Need]] = {
            "schedule": frozenset({"scores"}),
            "short": frozenset({"scores", "distances"}),
            "line": frozenset({"scores", "losses"}),
        }
        return asked[self.step]


def _one_of(name: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise UsageError(f"{name} is {value!r}", hint=f"It is one of: {', '.join(valid)}.")


@dataclass(frozen=True, slots=True)
class Selector:
    """A selector by name. ``options`` is ``None`` for one that takes everything and asks nothing."""

    name: str
    options: Options | None

    @property
    def needs(self) -> frozenset[Need]:
        """What it asks the oracle for."""
        return self.options.needs if self.options is not None else frozenset()


class Oracle(Protocol):
    """The world as a selector sees it. Only what ``Selector.needs`` names is called."""

    def scores(self, state: State, only: frozenset[str] | None = None) -> Scores:
        """a_i at the gradient of this state, exact, for the whole pool, or for ``only`` these contents.

        Of the pool, those that cannot be the best may be left out (``shortlist.unread``), never one that has weight.
        Whole-model selections take scores by group too. May raise TransientError.
        """
        ...

    def losses(self, start: State, end: State, shares: Sequence[float]) -> Sequence[float]:
        """The objective at (1 - s) theta_start + s theta_end, for each share s in [0, 1], in their order.

        A value that is no number says that the point is not usable.
        """
        ...

    def distances(self, direction: Weights) -> Mapping[str, float]:
        """Group -> ||sum_i c_i tau_i||^2 over the tensors of the group, for coefficients c of any sign."""
        ...
