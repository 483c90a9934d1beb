"""The replicated state joins like a set, and what follows from it does not depend on how it came about."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from hashlib import blake2b
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.ledger.union import (
    Entry,
    Obstacle,
    Part,
    Ruling,
    Union,
    contributions,
    duties,
    joined,
    keeper,
    next_ruling,
    of_part,
    select,
)
from mergenode.types import Digest
from tests.support.facts import digest

A, B, C = (f"00000000-0000-0000-0000-00000000000{number}" for number in "123")
ONE, TWO, THREE = (digest(number) for number in (1, 2, 3))


def entry(weight: float = 1.0) -> Entry:
    return Entry(registry="inbox", name="m", revision="r", kind="full", weight=weight, norm=1.0, relative_norm=0.1)


def part(node: str, *contents: Digest, seq: int = 1, weight: float = 1.0, **fields: object) -> Part:
    made = Part(
        node=node, base=digest(0), method="iso", options={}, position=(1, seq), generation=seq,
        statistics=digest(1000 + hash((node, contents, weight)) % 1000), lineage=digest(7),
        entries={content: entry(weight) for content in contents},
    )  # fmt: skip
    made = replace(made, **fields)  # type: ignore[arg-type]  # any field
    # Equal roots, equal parts: a root is a hash of all that is in them.
    return replace(made, root=blake2b(repr(made).encode(), digest_size=32).hexdigest())


def state(*parts: Part) -> Union:
    return reduce(joined, map(of_part, parts), Union())


def out(content: Digest, number: int = 1) -> dict[Digest, Ruling]:
    return {content: Ruling(content, number, "t", A)}


PARTS = st.builds(
    part,
    st.sampled_from([A, B, C]),
    seq=st.integers(1, 4),
    rulings=st.dictionaries(st.sampled_from([ONE, TWO]), st.integers(1, 4), max_size=2).map(
        lambda found: {content: Ruling(content, number, "t", A) for content, number in found.items()}
    ),
    forgotten=st.dictionaries(st.sampled_from([A, B, C]), st.integers(0, 2), max_size=1),
)
STATES = st.lists(PARTS, max_size=4).map(lambda parts: state(*parts))


@settings(deadline=None)
@given(STATES, STATES, STATES)
def test_joining_is_commutative_associative_and_idempotent(one: Union, two: Union, three: Union) -> None:
    assert joined(one, two) == joined(two, one)
    assert joined(one, joined(two, three)) == joined(joined(one, two), three)
    assert joined(one, one) == one
    assert joined(joined(one, two), two) == joined(one, two)


@settings(deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=4), st.booleans())
def test_every_order_of_arrival_selects_the_same(parts: list[Part], idempotent: bool) -> None:
    found = {
        (selection.lineage, tuple(part.node for part in selection.parts), selection.obstacles)
        for order in permutations(parts)
        for selection in [select(state(*order), idempotent=idempotent)]
    }
    assert len(found) == 1


def test_of_a_node_the_newest_part_counts() -> None:
    old, new = part(A, ONE, TWO, seq=1), part(A, ONE, seq=2)
    for found in (state(old, new), state(new, old)):
        assert set(select(found, idempotent=False).owners) == {ONE}


def test_parts_are_added_in_the_order_of_node_ids() -> None:
    found = select(state(part(C, THREE), part(A, ONE), part(B, TWO)), idempotent=False)
    assert [counted.node for counted in found.parts] == [A, B, C]
    assert [content for content, _, _ in contributions(found)] == sorted([ONE, TWO, THREE])


def test_what_two_hold_keeps_the_second_out_until_it_gave_way() -> None:
    both = state(part(A, ONE), part(B, ONE, TWO))
    found = select(both, idempotent=False)
    assert set(found.owners) == {ONE}
    assert found.obstacles == (Obstacle(B, ONE, A),)
    assert duties(both, B, found, idempotent=False).yields == ((ONE, A),)
    assert duties(both, A, found, idempotent=False).yields == ()
    after = joined(both, of_part(part(B, TWO, seq=2, standby=frozenset({ONE}))))
    assert set(select(after, idempotent=False).owners) == {ONE, TWO}


def test_where_a_method_counts_once_only_uneven_weights_stand_in_the_way() -> None:
    even, uneven = state(part(A, ONE), part(B, ONE, TWO)), state(part(A, ONE), part(B, ONE, weight=2.0))
    found = select(even, idempotent=True)
    assert set(found.owners) == {ONE, TWO} and found.repeated == {B: (ONE,)}
    assert duties(even, B, found, idempotent=True).yields == ()
    assert select(uneven, idempotent=True).obstacles == (Obstacle(B, ONE, A),)
    assert duties(uneven, B, select(uneven, idempotent=True), idempotent=True).yields == ((ONE, A),)


def test_a_part_with_retracted_contents_is_not_counted_and_its_owner_takes_them_out() -> None:
    told = state(part(A, ONE, TWO, rulings=out(ONE)), part(B, THREE))
    found = select(told, idempotent=False)
    assert set(found.owners) == {THREE} and found.obstacles == (Obstacle(A, ONE),)
    assert duties(told, A, found, idempotent=False).retract == (ONE,)


def test_nobody_gives_way_to_a_part_that_does_not_count() -> None:
    told = state(part(A, ONE, TWO, rulings=out(ONE)), part(B, TWO))
    assert duties(told, B, select(told, idempotent=False), idempotent=False).yields == ()


def test_a_node_that_cannot_take_out_keeps_and_the_other_one_gives_way() -> None:
    stuck = state(part(A, ONE, TWO), part(B, ONE, fixed=frozenset({ONE})))
    found = select(stuck, idempotent=False)
    assert duties(stuck, A, found, idempotent=False).yields == ((ONE, B),)
    assert duties(stuck, B, found, idempotent=False).yields == ()


def test_what_nobody_counts_any_more_is_folded_by_the_lowest_that_waits() -> None:
    waiting = frozenset({ONE})
    lost = state(part(B, TWO, standby=waiting), part(C, THREE, standby=waiting))
    found = select(lost, idempotent=False)
    assert duties(lost, B, found, idempotent=False).take_back == (ONE,)
    assert duties(lost, C, found, idempotent=False).take_back == ()
    held = joined(lost, of_part(part(A, ONE)))
    assert duties(held, B, select(held, idempotent=False), idempotent=False).take_back == ()
    ruled_out = joined(lost, Union({}, out(ONE)))
    assert duties(ruled_out, B, select(ruled_out, idempotent=False), idempotent=False).take_back == ()


def test_of_two_rulings_the_higher_one_counts() -> None:
    told = joined(Union({}, out(ONE, 1)), Union({}, out(ONE, 2)))
    assert not told.is_out(ONE)
    again = next_ruling(told, ONE, out=True, node=B, said="t", why="still")
    assert again == Ruling(ONE, 3, "t", B, "still")
    assert next_ruling(told, ONE, out=False, node=B, said="t") is None
    assert next_ruling(Union(), ONE, out=False, node=B, said="t") is None


def test_a_forgotten_node_counts_again_from_its_next_start() -> None:
    told = joined(state(part(A, ONE), part(B, TWO)), Union({}, {}, {A: 1}))
    assert set(select(told, idempotent=False).owners) == {TWO}
    late = joined(told, of_part(part(A, ONE, seq=9)))
    assert late == told
    back = joined(told, of_part(part(A, ONE, position=(2, 1))))
    assert set(select(back, idempotent=False).owners) == {ONE, TWO}


def test_the_keeper_is_another_node_that_counts() -> None:
    found = select(state(part(A, ONE), part(B, TWO)), idempotent=False)
    assert (keeper(found, B, ONE), keeper(found, A, ONE), keeper(found, A, THREE)) == (A, None, None)


@pytest.mark.parametrize("change", [{"statistics": digest(1)}, {"lineage": digest(2)}])
def test_lineage_tells_parts_apart(change: dict[str, Digest]) -> None:
    one, other = part(A, ONE), replace(part(A, ONE), **change)  # type: ignore[arg-type]  # any field
    assert select(state(one), idempotent=False).lineage != select(state(other), idempotent=False).lineage


def test_parts_without_contributions_change_no_lineage() -> None:
    alone, beside = state(part(A, ONE)), state(part(A, ONE), part(B))
    assert select(alone, idempotent=False).lineage == select(beside, idempotent=False).lineage
    assert select(state(part(B)), idempotent=False).lineage is None
