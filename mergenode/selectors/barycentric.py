"""Weights of a selection when vertices come and go, and how far one state is from another."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from math import fsum

from mergenode.errors import UsageError
from mergenode.selectors.contract import NOTHING, WHOLE, State, Vanished, Weights

RESTART = 2
"""Where the schedule goes on when vertices are new. See ``warm_start``."""


def settled(weights: Mapping[str, float]) -> dict[str, float]:
    """The weights without zeros; scaled to sum to 1 where the base has lost all but rounding."""
    kept = {vertex: weight for vertex, weight in weights.items() if weight > 0.0}
    total = fsum(kept.values())
    if total > 1.0 - NOTHING:
        return {vertex: weight / total for vertex, weight in kept.items()}
    return kept


def without(state: State, vertices: Collection[str], *, vanished: Vanished = "base") -> State:
    """The state with these contents gone. Idempotent; the round stays.

    ``base``: theta loses w_i tau_i and nothing else changes. ``renormalised``: what stays, the base included, is scaled
    to sum to 1; where nothing stays, the base has all.
    """
    gone = set(vertices)
    weights: dict[str, dict[str, float]] = {}
    for group, before in state.weights.items():
        kept = {vertex: weight for vertex, weight in before.items() if vertex not in gone}
        lost = fsum(weight for vertex, weight in before.items() if vertex in gone)
        if vanished == "renormalised" and lost > 0.0 and 1.0 - lost >= NOTHING:
            kept = {vertex: weight / (1.0 - lost) for vertex, weight in kept.items()}
        weights[group] = settled(kept)
    return replace(state, weights={group: kept for group, kept in weights.items() if kept})


def warm_start(
    state: State, pool: Collection[str], *, known: Collection[str] = (), vanished: Vanished = "base"
) -> State:
    """Where the selection goes on when the pool is now ``pool`` and was ``known``.

    What left the pool loses its weight (``without``); what is new starts with none. With a newcomer the schedule goes
    back to round 2 if it was later, so that its first step can give it half. An error h at round t0 of the schedule
    has the factor t0 (t0 + 1) / (t (t + 1)) at round t (unroll h' <= (1 - g) h + g^2 C / 2 with g = 2 / (t + 2)), so
    going on from a small t0 forgets where it started, and from 0 it would throw the weights away.
    """
    present = set(pool)
    kept = without(state, [vertex for vertex in state.vertices() if vertex not in present], vanished=vanished)
    newcomers = present - set(known) - state.vertices()
    return replace(kept, round=min(kept.round, RESTART)) if newcomers else kept


def by_groups(state: State, groups: Iterable[str]) -> State:
    """A whole-model state as one by group: the same weights in each. theta is the same.

    Raises:
        UsageError: the state is by group already, and there is no way to tell what new groups should have.
    """
    if set(state.weights) - {WHOLE}:
        raise UsageError(
            "the weights are kept by layer group already",
            hint="Start the selection afresh after a change of the groups.",
        )
    return replace(state, weights={group: dict(state.of(WHOLE)) for group in groups if state.of(WHOLE)})


def trimmed(state: State, below: float, *, vanished: Vanished = "base") -> State:
    """The state without weights smaller than ``below``, group by group: crumbs are not worth a fold."""
    weights: dict[str, Mapping[str, float]] = {}
    for group, before in state.weights.items():
        small = [vertex for vertex, weight in before.items() if weight < below]
        weights.update(without(State({group: before}), small, vanished=vanished).weights)
    return replace(state, weights=weights)


def difference(after: Weights, before: Weights) -> dict[str, dict[str, float]]:
    """Group -> content -> change of weight, without zeros: the coefficients c of theta' - theta = sum_i c_i tau_i."""
    changes: dict[str, dict[str, float]] = {}
    for group in sorted({*after, *before}):
        new, old = after.get(group, {}), before.get(group, {})
        change = {vertex: new.get(vertex, 0.0) - old.get(vertex, 0.0) for vertex in sorted({*new, *old})}
        changes[group] = {vertex: value for vertex, value in change.items() if value != 0.0}
    return changes
