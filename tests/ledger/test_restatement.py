"""How a merge becomes one without some of its contributions."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.ledger.records import Fact
from mergenode.ledger.restatement import (
    Impossible,
    Moment,
    Replay,
    Subtract,
    as_candidate,
    lineage_after,
    moments,
    plan_restatement,
)
from mergenode.types import Candidate, Head
from tests.support.facts import admitted, digest, folded, initialised, restated, retracted

MEMBERS = [(number + 1, as_candidate(folded(number))) for number in range(1, 6)]
EVERYTHING = {digest(number) for number in range(1, 6)}
HEAD = Head(generation=5, count=5, lineage=digest(2005))


def snapshot(*numbers: int, generation: int | None = None) -> Moment:
    last = generation or max(numbers)
    return Moment(Head(generation=last, count=len(numbers)), tuple(number + 1 for number in numbers))


def plan(*removed: int, retractable: bool = True, snapshots: tuple[Moment, ...] = (), gone: tuple[int, ...] = ()):
    return plan_restatement(
        HEAD,
        MEMBERS,
        {digest(number) for number in removed},
        retractable=retractable,
        snapshots=snapshots,
        at_hand=EVERYTHING - {digest(number) for number in gone},
    )


def names(candidates: tuple[Candidate, ...]) -> list[str]:
    return [candidate.name for candidate in candidates]


def test_one_of_many_is_subtracted() -> None:
    way = plan(2)
    assert isinstance(way, Subtract)
    assert (way.head, names(way.removed), way.folds) == (HEAD, ["m2"], 1)


def test_a_method_that_cannot_subtract_replays_what_came_after_the_snapshot() -> None:
    way = plan(4, retractable=False, snapshots=(snapshot(1, 2), snapshot(1, 2, 3), snapshot(1, 2, 3, 4)))
    assert isinstance(way, Replay)
    assert (way.start.generation, names(way.folded)) == (3, ["m5"])


def test_without_a_snapshot_the_replay_starts_from_nothing() -> None:
    way = plan(1, retractable=False)
    assert way == Replay(Head(), tuple(candidate for _, candidate in MEMBERS[1:]))


def test_a_snapshot_that_holds_what_leaves_is_of_no_use() -> None:
    way = plan(1, retractable=False, snapshots=(snapshot(1, 2),))
    assert isinstance(way, Replay)
    assert way.start.generation == 0


def test_the_exact_way_is_taken_where_it_costs_no_more() -> None:
    way = plan(5, snapshots=(snapshot(1, 2, 3, 4),))
    assert isinstance(way, Replay)
    assert (way.start.generation, way.folded) == (4, ())


def test_the_last_contribution_is_never_subtracted() -> None:
    way = plan(1, 2, 3, 4, 5)
    assert way == Replay(Head(), ())


def test_when_its_files_are_gone_the_others_are_replayed() -> None:
    way = plan(2, gone=(2,))
    assert isinstance(way, Replay)
    assert names(way.folded) == ["m1", "m3", "m4", "m5"]


def test_when_nothing_is_left_of_either_way_what_is_missing_is_named() -> None:
    way = plan(2, gone=(2, 4))
    assert isinstance(way, Impossible)
    assert (names(way.missing), way.subtractable) == (["m2"], True)
    way = plan(2, retractable=False, gone=(2, 4))
    assert isinstance(way, Impossible)
    assert (names(way.missing), way.subtractable) == (["m4"], False)


def test_what_was_in_a_generation_follows_from_the_facts() -> None:
    facts: list[Fact] = [
        initialised(), admitted(7), restated(1, 1, how="combined"), folded(1, generation=2, count=2),
        folded(2, generation=3, count=3), retracted(1), restated(4, 2), folded(1, generation=5, count=3),
    ]  # fmt: skip
    found = moments(enumerate(facts, start=1), {1, 3, 4, 5, 9})
    assert {generation: moment.members for generation, moment in found.items()} == {
        1: (2,), 3: (2, 4, 5), 4: (2, 5), 5: (2, 5, 8),
    }  # fmt: skip
    assert found[4].head.statistics == digest(1004)
    assert found[5].head.count == 3


@settings(deadline=None, max_examples=100)
@given(
    kept=st.lists(st.integers(1, 5), unique=True, max_size=5).map(sorted),
    taken=st.lists(st.integers(1, 5), unique=True, max_size=3).map(sorted),
)
def test_the_lineage_of_a_replay_is_that_of_a_node_that_never_folded_the_rest(
    kept: list[int], taken: list[int]
) -> None:
    """Whatever snapshot a replay starts from."""
    origin = initialised()
    direct = lineage_after(Replay(Head(), tuple(as_candidate(folded(n)) for n in kept)), origin)
    start = Head(lineage=lineage_after(Replay(Head(), tuple(as_candidate(folded(n)) for n in kept[:2])), origin))
    assert lineage_after(Replay(start, tuple(as_candidate(folded(n)) for n in kept[2:])), origin) == direct
    forwards = Subtract(HEAD, tuple(as_candidate(folded(n)) for n in taken))
    backwards = Subtract(HEAD, forwards.removed[::-1])
    assert lineage_after(forwards, origin) == lineage_after(backwards, origin) != direct
