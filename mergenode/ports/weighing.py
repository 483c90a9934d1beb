"""How much of a newcomer enters: asked after a contribution was judged, before it is committed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from mergenode.ports.engine import Earlier
from mergenode.ports.observer import Observer
from mergenode.types import Candidate, Head


@dataclass(frozen=True, slots=True)
class Weighed:
    """The weight that a candidate is folded with, and how it was found: JSON values, of bounded size.

    ``record``: ``name`` (``fit``), ``given`` (the weight before), ``tasks`` by name (``before``, ``after``: scores
    without the newcomer and with it; ``link``, ``fit``: constant, linear, quadratic; ``residual``), ``trials``:
    (weight, objective) of every merge that was scored, ``pareto``: the names of the tasks and (weight, predicted
    scores) of weights that no other weight beats; or ``failed``: why the given weight was kept. Empty: nothing was
    weighed.
    """

    weight: float
    record: Mapping[str, Any] = field(default_factory=dict)


class Weigher(Protocol):
    """Tries a contribution at several weights; holds no decision about whether it may enter, but for its bound."""

    def weigh(self, candidate: Candidate, head: Head, earlier: Earlier, observer: Observer) -> Weighed:
        """The weight for ``candidate`` on top of the merge ``head``. The committed statistics stay as they are.

        Durability: nothing is left behind. Idempotence: a function of the scores; killed, all is done again.

        Raises:
            RejectedError: LOWERS_A_SCORE: at every weight that was tried a score falls further than may be.
            TransientError: TASK_FAILED when there are no scores and a bound that cannot be held without them; and
                whatever a fold raises.
        """
        ...
