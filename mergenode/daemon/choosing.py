"""The rounds of a selection: gradient at the mix so far, scores, one step, until nothing is to be gained.

Works on a pool that stands still, and records nothing: killed anywhere, the same call from the same start gives the
same, as far as the plug-in repeats itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import cast

from mergenode.errors import TransientError, TransientReason
from mergenode.ports.pool import Unreadable, Weights
from mergenode.ports.selecting import Objective
from mergenode.selectors import contract
from mergenode.selectors.barycentric import trimmed
from mergenode.selectors.contract import Options, Scores, State, Stop
from mergenode.selectors.frank_wolfe import Proposal, propose
from mergenode.selectors.running import one_round
from mergenode.types import Candidate, Digest

CRUMB = 1e-9
"""A smaller share is rounding. Taking it off would be a step of its own, and one that lowers no loss."""

Tell = Callable[[str], None]


class PoolChanged(Exception):
    """Some of the pool could not be read: whoever selects has to do without them, from the start."""

    def __init__(self, unreadable: Sequence[Unreadable]) -> None:
        super().__init__(f"{len(unreadable)} of the pool cannot be read: {unreadable[0].message}")
        self.unreadable = tuple(unreadable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The mix with the lowest loss that was looked at, and how it was found.

    ``proposal``: what the scores at that mix say; ``scored``: the contents that were scored there. ``losses`` and
    ``gaps``: at every mix that was looked at, the start first. ``rounds``: steps taken.
    """

    state: State
    proposal: Proposal
    loss: float
    losses: tuple[float, ...]
    gaps: tuple[float, ...]
    rounds: int
    stop: Stop


@dataclass(slots=True)
class _Hull:
    """Implements ``selectors.contract.Oracle``: one gradient per mix, whoever asks for it."""

    objective: Objective
    pool: Mapping[Digest, Candidate]
    _at: State | None = None
    _loss: float = 0.0
    _known: dict[str, Mapping[str, float]] = field(default_factory=dict)

    def loss(self, state: State) -> float:
        if self._at is None or self._at.weights != state.weights:
            self._at, self._known = None, {}
            loss = self.objective.gradient_at(_weights(state))
            if not isfinite(loss):
                raise TransientError(
                    TransientReason.TASK_FAILED,
                    f"the loss of the task plug-in is {loss} at the mix of {len(state.vertices())} contributions",
                    hint="Run `mergenode task check`; a loss has to be a finite number for every mix.",
                )
            self._at, self._loss = state, loss
        return self._loss

    def scores(self, state: State, only: frozenset[str] | None = None) -> Scores:
        self.loss(state)
        wanted = state.vertices() if only is None else only
        if only is None or not only <= self._known.keys():
            pool = self.pool if only is None else {c: self.pool[c] for c in self.pool if c in only}
            found = self.objective.scores(pool, frozenset(Digest(content) for content in wanted))
            if found.unreadable:
                raise PoolChanged(found.unreadable)
            self._known |= {str(content): groups for content, groups in found.scores.items()}
        return self._known if only is None else {content: self._known[content] for content in only}

    def losses(self, start: State, end: State, shares: Sequence[float]) -> Sequence[float]:
        return self.objective.losses_along(_weights(start), _weights(end), shares)

    def distances(self, direction: contract.Weights) -> Mapping[str, float]:
        raise NotImplementedError("no step of a node needs the distance between two mixes")


def _weights(state: State) -> Weights:
    """The weights of a state, whose vertices are contents of the pool."""
    return cast(Weights, state.weights)


def choose(
    objective: Objective, pool: Mapping[Digest, Candidate], start: State, options: Options, tolerance: float,
    tell: Tell = lambda text: None,
) -> Chosen:  # fmt: skip
    """Select from ``start`` on. ``tolerance``: of the duality gap, as a share of the loss at the mix.

    Of the mixes that were looked at, the one with the lowest loss is chosen, of equal ones the first: a schedule may
    step past it, and no selection shall be worse than the one before.

    Raises PoolChanged, and TransientError and Stopped as ``Objective``.
    """
    hull, state = _Hull(objective, pool), start
    losses: list[float] = []
    gaps: list[float] = []
    best: tuple[float, State, Proposal] | None = None
    while True:
        loss = hull.loss(state)
        proposal = propose(state, hull.scores(state), options)
        losses.append(loss)
        if isfinite(proposal.gap):  # else weight is taken from what has no score; the next round measures
            gaps.append(proposal.gap)
            if best is None or loss < best[0]:
                best = (loss, state, proposal)
            tell(f"selection: round {len(losses) - 1}, loss {loss:.6g}, gap {proposal.gap:.4g}")
        allowed = replace(options, tolerance=tolerance * abs(loss))
        done = one_round(state, hull, allowed) if len(losses) <= options.rounds else None
        if done is None or done.stop is not None or done.after.weights == state.weights:
            stop = Stop.ROUNDS if done is None else done.stop or Stop.NO_DESCENT
            break
        state = trimmed(done.after, CRUMB)
    if best is None:
        raise TransientError(
            TransientReason.TASK_FAILED,
            "no mix had scores that are finite",
            hint="Look at the loss of the task plug-in: its gradient overflows.",
        )
    return Chosen(
        state=best[1], proposal=best[2], loss=best[0], losses=tuple(losses), gaps=tuple(gaps), rounds=len(losses) - 1,
        stop=stop,
    )  # fmt: skip
