"""Waiting, shares and epochs: bounded, stochastic, the same for everybody who knows the same."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from statistics import median
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.mixers.rounds import (
    JUMP,
    Go,
    Offered,
    RoundRules,
    Standing,
    Wait,
    collect,
    deadline,
    next_epoch,
    shares,
)
from mergenode.mixers.topology import metropolis

A, B, C, D = (UUID(int=number) for number in range(1, 5))
RULES = RoundRules(shortest=10.0, longest=100.0)


def standing(
    heads: Sequence[Offered], up: dict[UUID, bool], *, epoch: int = 5, waited: float = 0.0, uptime: float = 1e6,
    offsets: Sequence[float] = (),
) -> Standing:  # fmt: skip
    offered = {head.node: head for head in heads}
    return Standing(epoch=epoch, neighbours=up, offered=offered, waited=waited, uptime=uptime, offsets=offsets)


def went(decision: Wait | Go) -> Go:
    assert isinstance(decision, Go)
    return decision


def test_everybody_answered_nobody_is_waited_for() -> None:
    heads = [Offered(A, 5), Offered(B, 6)]
    assert went(collect(RULES, standing(heads, {A: True, B: True}))).chosen == tuple(heads)


def test_a_straggler_is_left_behind_at_the_deadline_and_its_old_head_is_taken() -> None:
    heads, up = [Offered(A, 5), Offered(B, 4), Offered(C, 3)], {A: True, B: True, C: True, D: False}
    assert collect(RULES, standing(heads, up, waited=9.0)) == Wait(1.0, "2 of 3 neighbours have no model of epoch 5")
    assert isinstance(collect(RULES, standing(heads, up, waited=10.0)), Wait), "one of three is no half"
    heads[2] = Offered(C, 5)
    decision = went(collect(RULES, standing(heads, up, waited=10.0)))
    assert decision.chosen == tuple(heads) and decision.missing == (D,) and decision.stale == ()
    heads[1] = Offered(B, 3)
    assert went(collect(RULES, standing(heads, up, waited=10.0))).stale == (B,)


def test_without_a_quorum_the_longest_wait_ends_it() -> None:
    up = {A: True, B: True, C: True}
    assert collect(RULES, standing([Offered(A, 5)], up, waited=50.0)) == Wait(
        50.0, "2 of 3 neighbours have no model of epoch 5"
    )
    assert went(collect(RULES, standing([Offered(A, 5)], up, waited=100.0))).chosen == (Offered(A, 5),)


def test_the_dead_are_not_waited_for_but_in_the_first_seconds() -> None:
    assert went(collect(RULES, standing([], {A: False, B: False}))).chosen == ()
    assert collect(RULES, standing([], {A: False}, uptime=4.0)) == Wait(
        6.0, "1 of 1 neighbours have no model of epoch 5"
    )
    assert went(collect(RULES, standing([], {A: False}, uptime=10.0))).chosen == ()
    barrier = RoundRules(shortest=10.0, longest=100.0, synchronous=True, staleness=0)
    assert isinstance(collect(barrier, standing([Offered(B, 5)], {A: False, B: True}, waited=99.0)), Wait)


def test_the_deadline_follows_past_arrivals() -> None:
    offsets = [20.0, 22.0, 21.0, 30.0, 24.0]
    middle = median(offsets)
    assert deadline(RULES, offsets, 0.0) == middle + 4 * median(abs(x - middle) for x in offsets)
    assert deadline(RULES, [], 20.0) == 40.0 and deadline(RULES, [], 0.0) == 10.0 and deadline(RULES, [1e9], 0) == 100.0
    assert deadline(RULES, [1e9] * 5 + [0.0] * 20, 0.0) == 10.0, "only the newest twenty"


HEADS = st.lists(
    st.builds(Offered, st.uuids(), st.integers(0, 60), st.none() | st.integers(0, 12)), max_size=8,
    unique_by=lambda head: head.node,
)  # fmt: skip


@settings(deadline=None)
@given(HEADS, st.integers(0, 60), st.integers(0, 8), st.integers(0, 3), st.floats(0, 1))
def test_shares_are_stochastic_and_do_not_depend_on_order(
    heads: list[Offered], epoch: int, degree: int, staleness: int, discount: float
) -> None:
    rules = RoundRules(staleness=staleness, discount=discount)
    found = shares(rules, epoch, degree, heads)
    assert all(0 <= share <= 1 for share in found.values()) and sum(found.values()) <= 1 + 1e-9
    assert list(found) == sorted(found)
    assert shares(rules, epoch, degree, heads[::-1]) == found
    assert next_epoch(rules, epoch, degree, heads[::-1]) == next_epoch(rules, epoch, degree, heads) > epoch


@settings(deadline=None)
@given(
    HEADS, st.data(), st.floats(0, 1), st.floats(0, 200), st.floats(0, 1e4), st.lists(st.floats(0, 1e4), max_size=25),
    st.booleans(),
)  # fmt: skip
def test_nobody_waits_past_the_bound(
    heads: list[Offered], data: st.DataObject, quorum: float, waited: float, uptime: float, offsets: list[float],
    synchronous: bool,
) -> None:  # fmt: skip
    rules = RoundRules(quorum=quorum, shortest=10.0, longest=100.0, synchronous=synchronous)
    nodes = {head.node for head in heads} | {A, B}
    up = {node: data.draw(st.booleans()) for node in sorted(nodes)}
    decision = collect(rules, standing(heads, up, epoch=30, waited=waited, uptime=uptime, offsets=offsets))
    if isinstance(decision, Wait):
        assert decision.seconds > 0 and waited + decision.seconds <= rules.longest + 1e-9
    else:
        assert [head.node for head in decision.chosen] == sorted(head.node for head in decision.chosen)
        assert all(head.epoch >= 30 - rules.staleness for head in decision.chosen)
        assert {head.node for head in decision.chosen} | {*decision.missing, *decision.stale} == nodes


def test_shares_are_those_of_the_topology_when_all_answer() -> None:
    topology = metropolis({0: {1, 2, 3}, 1: {2}, 2: set(), 3: set()})
    ids = [A, B, C, D]
    for peer in range(4):
        near = sorted(topology.neighbours(peer))
        heads = [Offered(ids[other], 5, len(topology.neighbours(other))) for other in near]
        found = shares(RULES, 5, len(near), heads)
        assert found == pytest.approx({ids[other]: topology.shares[peer][other] for other in near})


def test_late_heads_and_those_far_ahead_count_less() -> None:
    heads = [Offered(A, 5), Offered(B, 4), Offered(C, 6), Offered(D, 8)]
    assert shares(RULES, 5, 4, heads) == pytest.approx({A: 0.2, B: 0.1, C: 0.2, D: 0.2 * 0.5**3})


def test_a_node_that_was_away_takes_over_the_others_model_and_epoch() -> None:
    heads = [Offered(A, 30), Offered(B, 31), Offered(C, 5)]
    assert shares(RULES, 5, 3, heads) == {A: 0.5, B: 0.5}
    assert next_epoch(RULES, 5, 3, heads) == 31
    assert shares(RULES, 5, 5, heads)[C] == pytest.approx(1 / 6), "two of five are not enough"


@pytest.mark.parametrize("liars", [0, 1])
def test_one_that_invents_an_epoch_takes_nobody_far(liars: int) -> None:
    heads = [Offered(A, 10**9), Offered(B, 5), Offered(C, 5)]
    wanted = 6 if liars else 5 + JUMP
    assert next_epoch(RoundRules(liars=liars), 5, 3, heads) == wanted
    assert next_epoch(RULES, 5, 3, [Offered(A, 6), Offered(B, 6), Offered(C, 6)]) == 6, "one ahead is in step"
    assert next_epoch(RULES, 5, 0, []) == 6


def test_a_quorum_is_rounded_up() -> None:
    assert ceil(0.5 * 3) == 2
    up = {A: True, B: True, C: True}
    assert isinstance(collect(RULES, standing([Offered(A, 5)], up, waited=20.0)), Wait)
