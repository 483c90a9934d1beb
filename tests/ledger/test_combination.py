"""What two ledgers become: every content once, with one weight, and each statistic in exactly one sum."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from zlib import crc32

from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.ledger.combination import (
    Combination,
    Inseparable,
    Side,
    admitted_from,
    facts_of,
    first_difference,
    plan_combination,
)
from mergenode.ledger.records import Admitted, Folded, Retracted
from mergenode.types import Head
from tests.support import facts
from tests.support.facts import digest

Weights = Mapping[int, float]
"""Contents by number, with their weights."""


def side(name: str, weights: Weights, withdrawn: tuple[int, ...] = ()) -> Side:
    """A ledger that folded these in order and took the ``withdrawn`` ones out."""
    members = [admitted_from(folded(number, weight), name, "now") for number, weight in weights.items()]
    gone = [
        (admitted_from(folded(number, 1.0), name, "now"), retracted(number))
        for number in withdrawn
        if number not in weights
    ]
    statistics = digest(sum(crc32(repr((name, pair)).encode()) for pair in weights.items())) if weights else None
    head = Head(generation=len(weights), count=len(weights), statistics=statistics, lineage=statistics)
    return Side(origin=facts.initialised(ledger_id=name), head=head, members=tuple(members), withdrawn=tuple(gone))


def folded(number: int, weight: float) -> Folded:
    return facts.folded(number, content=digest(number), weight=weight)


def retracted(number: int) -> Retracted:
    return Retracted(
        time="now", registry="inbox", name=f"m{number}", revision="1", content=digest(number), why=f"because {number}"
    )


def total(plan: Combination) -> dict[str, Fraction]:
    """What the statistics of the result hold of each content: an exact model of a sum."""
    if plan.taken is not None:
        return {member.content: Fraction(member.weight) for member in plan.sides[plan.taken].members}
    found: dict[str, Fraction] = {}
    for number, part in enumerate(plan.sides):
        leaving = {member.content: member for member in plan.leaving} if number == plan.reduced else {}
        for member in part.members:
            share = Fraction(member.weight) - Fraction(
                leaving[member.content].weight if member.content in leaving else 0
            )
            found[member.content] = found.get(member.content, Fraction(0)) + share
    return found


def wanted(a: Weights, b: Weights) -> dict[str, Fraction]:
    return {digest(number): Fraction(weight) for number, weight in {**b, **a}.items()}


weights = st.dictionaries(st.integers(1, 6), st.sampled_from([1.0, 0.5]), max_size=5)
even = st.dictionaries(st.integers(1, 6), st.just(1.0), max_size=5)


@settings(deadline=None, max_examples=200)
@given(weights, weights)
def test_of_a_sum_every_content_is_in_the_result_once_with_the_first_weight(a: Weights, b: Weights) -> None:
    if not a and not b:
        return
    plan = plan_combination(side("a", a), side("b", b), retractable=True, idempotent=False)
    assert isinstance(plan, Combination)
    assert total(plan) == wanted(a, b)
    assert {member.content: Fraction(member.weight) for member in plan.admitted} == wanted(a, b)
    assert [member.content for member in plan.admitted] == [digest(n) for n in [*a, *(n for n in b if n not in a)]]
    assert plan.shared == len(a.keys() & b.keys())
    assert {kept.content for kept, _ in plan.uneven} == {digest(n) for n in a.keys() & b.keys() if a[n] != b[n]}
    assert all(kept.weight == a[int(kept.content[-4:], 16)] for kept, _ in plan.uneven)


@settings(deadline=None, max_examples=100)
@given(even, even)
def test_the_order_of_the_two_decides_nothing_but_the_order_of_the_members(a: Weights, b: Weights) -> None:
    if not a and not b:
        return
    for idempotent in (False, True):
        one, other = (
            plan_combination(*pair, retractable=not idempotent, idempotent=idempotent)
            for pair in ((side("a", a), side("b", b)), (side("b", b), side("a", a)))
        )
        assert isinstance(one, Combination) and isinstance(other, Combination)
        assert one.lineage == other.lineage
        names = [
            plan.sides[chosen].origin.ledger_id if chosen is not None else None
            for plan in (one, other)
            for chosen in (plan.taken, plan.reduced)
        ]
        assert names[:2] == names[2:]
        assert one.leaving == other.leaving and one.overlapping == other.overlapping


def test_what_can_neither_leave_nor_count_once_is_named() -> None:
    a, b = side("a", {1: 1.0, 2: 1.0}), side("b", {2: 1.0, 3: 1.0})
    found = plan_combination(a, b, retractable=False, idempotent=False)
    assert isinstance(found, Inseparable)
    assert [member.name for member in found.shared] == ["m2"] and not found.uneven


def test_a_maximum_of_two_weights_cannot_be_undone() -> None:
    a, b = side("a", {1: 1.0, 2: 0.5}), side("b", {2: 1.0, 3: 1.0})
    found = plan_combination(a, b, retractable=False, idempotent=True)
    assert isinstance(found, Inseparable) and found.uneven


def test_what_a_maximum_counts_once_only_leaves_the_totals() -> None:
    a, b = side("a", {1: 1.0, 2: 1.0}), side("b", {2: 1.0, 3: 1.0})
    plan = plan_combination(a, b, retractable=False, idempotent=True)
    assert isinstance(plan, Combination)
    assert not plan.leaving and [member.name for member in plan.overlapping] == ["m2"]


def test_members_are_told_apart_by_content_and_keep_their_origin() -> None:
    once = admitted_from(folded(1, 1.0), "first", "then")
    again = admitted_from(once, "second", "now")
    assert (again.origin, again.time, again.content, again.location) == ("first", "now", digest(1), "/inbox/m1")


def test_retractions_of_either_side_hold_unless_the_other_kept_it() -> None:
    a, b = side("a", {1: 1.0}, withdrawn=(2, 3)), side("b", {2: 1.0}, withdrawn=(3, 4))
    plan = plan_combination(a, b, retractable=True, idempotent=False)
    assert isinstance(plan, Combination)
    assert sorted(member.name for member, _ in plan.withdrawn) == ["m3", "m4"]
    assert [member.name for member, _ in plan.contested] == ["m2"]
    told = list(facts_of(plan))
    assert [type(fact) for fact in told] == [Admitted, Admitted, Admitted, Retracted, Admitted, Retracted]


def test_the_first_difference_is_named() -> None:
    one = facts.initialised()
    assert first_difference(one, facts.initialised(ledger_id="b2", time="later")) is None
    for changed, words in (
        ({"base": digest(7)}, "for the base"),
        ({"method": "average", "options": {}}, "method opcm, the other with average"),
        ({"options": {"alpha": 0.25}}, "option alpha of opcm is 0.5 in one and 0.25"),
        ({"options": {}}, "0.5 in one and not set"),
    ):
        assert words in (first_difference(one, facts.initialised(**changed)) or "")
