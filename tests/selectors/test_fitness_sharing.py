"""Copies share, loners stay, and the order of the pool changes nothing."""

from __future__ import annotations

from math import inf, nan
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.selectors.fitness_sharing import Evicted, evict, shares

names = st.text("0123456789abcdef", min_size=4, max_size=4)
pools = st.dictionaries(names, st.lists(st.floats(0, 1), min_size=3, max_size=3), max_size=8)


def literal(pool: dict[str, list[float]], limit: int) -> list[str]:
    """The archive of M2N2: as long as there are too many, compute every share and drop the lowest."""
    left, gone = dict(pool), []
    while len(left) > limit:
        share = {}
        for vertex in left:
            totals = [sum(scores[j] for scores in left.values()) for j in range(3)]
            share[vertex] = sum(left[vertex][j] / totals[j] if totals[j] else 0.0 for j in range(3))
        worst = min(sorted(left, reverse=True), key=lambda vertex: share[vertex])
        gone.append(worst)
        del left[worst]
    return gone


@given(st.dictionaries(names, st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=3, max_size=3), max_size=8))
@settings(deadline=None)
def test_the_shares_are_those_of_the_definition(pool: dict[str, list[float]]) -> None:
    found = shares(pool)
    for vertex, scores in pool.items():
        totals = [sum(other[j] for other in pool.values()) for j in range(3)]
        wanted = sum(score / total for score, total in zip(scores, totals, strict=True) if total)
        assert found[vertex] == pytest.approx(wanted)


@pytest.mark.parametrize("limit", range(5))
def test_it_drops_whom_the_archive_drops(limit: int) -> None:
    pool = {"a": [0.9, 0.1, 0.2], "b": [0.8, 0.2, 0.3], "c": [0.1, 0.9, 0.3], "d": [0.4, 0.4, 0.9], "e": [0.9, 0, 0.1]}
    assert [gone.vertex for gone in evict(pool, limit)] == literal(pool, limit)


@given(pools, st.integers(0, 6), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_pool_changes_nothing(pool: dict[str, list[float]], limit: int, shuffle: Random) -> None:
    order = list(pool)
    shuffle.shuffle(order)
    gone = evict(pool, limit)
    assert evict({vertex: pool[vertex] for vertex in order}, limit) == gone
    assert len(pool) - len(gone) == min(limit, len(pool))


@given(pools)
@settings(deadline=None)
def test_shares_add_up_to_the_samples_where_somebody_earns(pool: dict[str, list[float]]) -> None:
    earned = sum(any(scores[j] for scores in pool.values()) for j in range(3))
    assert sum(shares(pool).values()) == pytest.approx(earned)


def test_one_of_two_copies_goes_and_a_weak_loner_stays() -> None:
    pool = {"copy1": [1.0, 0.0], "copy2": [1.0, 0.0], "loner": [0.0, 0.1]}
    assert evict(pool, 2) == (Evicted("copy2", 0.5),)


@pytest.mark.parametrize("scores", [[nan, 1.0], [inf, 1.0], [-1.0, 1.0], [1.0]])
def test_scores_that_are_none_leave_first(scores: list[float]) -> None:
    pool = {"good1": [0.1, 0.0], "good2": [1.0, 1.0], "bad": scores}
    assert evict(pool, 2) == (Evicted("bad", None),)
    assert evict(pool, 3) == ()


def test_who_is_kept_stays_whatever_its_share() -> None:
    pool = {"a": [0.0], "b": [1.0], "c": [0.5]}
    assert [gone.vertex for gone in evict(pool, 1, keep=["a"])] == ["c", "b"]
    assert [gone.vertex for gone in evict(pool, 0, keep=["a", "c"])] == ["b"]
    assert evict({"bad": [nan]}, 0, keep=["bad"]) == ()
