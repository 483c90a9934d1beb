"""Which of the chosen models get into the mix, in which order of units, and with which coefficient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from uuid import UUID

from mergenode.daemon.circle import Circle, is_task_failure
from mergenode.errors import TransientError
from mergenode.ledger.round_state import Refusal, RoundState, Taken
from mergenode.mixers.defence import DISTANCES, Geometry, clip_factors, recipe, reference
from mergenode.mixers.rounds import Offered, shares, was_away

GROWN = 10.0
"""Norm of a neighbour's model relative to the own one from which on it is refused: no training explains it."""

NORM, DISTANCE, MATCHING, TASK = "norm_too_large", "too_far", "not_matched", "task_failed"
"""Codes of refusals, besides ``not_finite``, ``schema`` and those of a file that cannot be read."""


def admit(circle: Circle, state: RoundState) -> RoundState:
    """Look at every chosen model, match it, measure it, and write down how the mix is computed.

    Idempotence: the same chosen heads give the same recipe. What is refused is told to the exchange.
    """
    heads = _heads(state.taken)
    weights = shares(circle.rules, state.epoch, known_degree(state), heads, circle.neighbourhood.shares())
    wanted = [replace(each, weight=weights.get(UUID(each.node), 0.0)) for each in state.taken]
    wanted, refused = _readable(circle, state, [each for each in wanted if each.weight > 0])
    wanted, unmatched = _matched(circle, state, wanted)
    refused += unmatched
    if not wanted:
        return _settled(circle, replace(state, taken=(), recipe={}, spread=None, update=None), refused)
    geometry = circle.models.measure(
        circle.store.path(state.trained), circle.store.path(state.start), _files(circle, wanted)
    )
    usual = reference(geometry.distances, state.distances, geometry.update)
    away = bool(was_away(state.epoch, known_degree(state), _heads(state.taken)))
    if not away:
        near = [
            place for place, far in enumerate(geometry.distances) if far <= circle.policy.limit * usual or not usual
        ]
        refused += _too_far(wanted, geometry, near, usual)
        wanted, geometry = [wanted[place] for place in near], geometry.only(near)
    return _settled(circle, _planned(circle, state, wanted, geometry, usual, away), refused)


def known_degree(state: RoundState) -> int:
    """The number of neighbours: as declared, or as many as have turned up since."""
    return max(state.degree, len(state.taken) + len(state.refused) + len(state.missing) + len(state.stale))


def _planned(
    circle: Circle, state: RoundState, wanted: Sequence[Taken], geometry: Geometry, usual: float, away: bool
) -> RoundState:
    policy = circle.policy
    radius = None if policy.clip is None or away else policy.clip * usual
    plan = recipe(
        "none" if away else policy.robust, [each.weight for each in wanted], geometry, radius, usual, policy.trim
    )
    factors = clip_factors(geometry.distances, radius)
    taken = tuple(
        replace(each, distance=geometry.distances[i], cosine=geometry.cosine(i), clipped=factors[i])
        for i, each in enumerate(wanted)
    )
    now = [reference(geometry.distances, (), 0.0)] if taken else []
    return replace(
        state,
        taken=taken,
        recipe=asdict(plan),
        spread=geometry.spread,
        update=geometry.update,
        distances=(*state.distances, *now)[-DISTANCES:],
    )


def _readable(circle: Circle, state: RoundState, wanted: Sequence[Taken]) -> tuple[list[Taken], list[Refusal]]:
    own = circle.store.path(state.trained)
    ours, good, refused = circle.models.inspect(own, own), [], []
    for each in wanted:
        found = circle.models.inspect(own, circle.store.path(each.file))
        if found.code:
            refused.append(_refusal(each, found.code, found.message))
        elif ours.norm > 0 and found.norm > GROWN * ours.norm:
            what = f"its weights have norm {found.norm:.4g}, ours {ours.norm:.4g}"
            refused.append(_refusal(each, NORM, what))
        else:
            good.append(each)
    return good, refused


def _matched(circle: Circle, state: RoundState, wanted: list[Taken]) -> tuple[list[Taken], list[Refusal]]:
    """The models in the order of our units, in files of their own."""
    if circle.policy.matching == "none" or not wanted or circle.trainer is None:
        return wanted, []
    names = {each.node: f"r{state.number:08d}-matched-{each.node}.safetensors" for each in wanted}
    try:
        odd = circle.trainer.align(
            circle.store.path(state.trained),
            {each.node: circle.store.path(each.file) for each in wanted},
            {node: circle.store.staging(name) for node, name in names.items()},
            circle.policy.matching,
        )
    except TransientError as error:
        if not is_task_failure(error):
            raise
        circle.tell("warning", f"round {state.number}: nobody is matched: {error.message}", hint=error.hint)
        return [], [_refusal(each, TASK, error.message) for each in wanted]
    matched = []
    for each in wanted:
        if each.node not in odd:
            circle.store.install(names[each.node])
            matched.append(replace(each, file=names[each.node]))
    return matched, [_refusal(each, MATCHING, odd[each.node]) for each in wanted if each.node in odd]


def _too_far(wanted: Sequence[Taken], geometry: Geometry, near: Sequence[int], usual: float) -> list[Refusal]:
    return [
        _refusal(each, DISTANCE, f"it is {geometry.distances[place]:.4g} from ours, usual is {usual:.4g}")
        for place, each in enumerate(wanted)
        if place not in near
    ]


def _settled(circle: Circle, state: RoundState, refused: list[Refusal]) -> RoundState:
    """The state with the refusals, which are told. A plug-in's failure is no fault of the neighbour."""
    for each in refused:
        circle.tell("warning", f"the model of {each.node[:8]} is refused: {each.message}", code=each.code)
        if each.code != TASK:
            circle.exchange.accuse(UUID(each.node), each.code, each.message)
    return replace(state, refused=tuple(refused))


def _files(circle: Circle, wanted: Sequence[Taken]) -> list[Path]:
    return [circle.store.path(each.file) for each in wanted]


def _heads(taken: Sequence[Taken]) -> list[Offered]:
    return [Offered(UUID(each.node), each.epoch, each.degree) for each in taken]


def _refusal(each: Taken, code: str, message: str) -> Refusal:
    return Refusal(node=each.node, root=each.root, code=code, message=message[:500])
