"""What every ``LedgerStore`` must do. A test module subclasses this and provides an empty ``ledger``."""

from __future__ import annotations

import pytest

from mergenode.errors import FatalError
from mergenode.ledger.records import Fact
from mergenode.ports.ledger_store import LedgerStore
from mergenode.types import Head
from tests.support.facts import (
    admitted,
    deselected,
    digest,
    discovered,
    duplicate,
    folded,
    initialised,
    pruned,
    published,
    quarantined,
    rejected,
    released,
    restated,
    retracted,
    selected,
)

ILLEGAL: dict[str, tuple[list[Fact], Fact]] = {
    "fact before the start": ([], discovered()),
    "fold before the start": ([], folded()),
    "second start": ([initialised()], initialised()),
    "generation skipped": ([initialised()], folded(2, count=1)),
    "generation repeated": ([initialised(), folded(1)], folded(2, generation=1)),
    "count skipped": ([initialised(), folded(1)], folded(2, count=3)),
    "count repeated": ([initialised(), folded(1)], folded(2, count=1)),
    "content folded twice": ([initialised(), folded(1)], folded(2, content=digest(1))),
    "content folded twice, much later": (
        [initialised(), folded(1), folded(2), folded(3)],
        folded(4, content=digest(1)),
    ),
    "nothing to publish": ([initialised()], published(1, generation=0)),
    "version skipped": ([initialised(), folded(1)], published(2, generation=1)),
    "uncommitted generation published": ([initialised(), folded(1)], published(1, generation=2)),
    "old generation published": ([initialised(), folded(1), folded(2)], published(1, generation=1)),
    "generation published twice": (
        [initialised(), folded(1), published(1)],
        published(2, generation=1),
    ),
    "newest version pruned": ([initialised(), folded(1), published(1)], pruned(1)),
    "unknown version pruned": ([initialised(), folded(1), published(1)], pruned(7)),
    "version pruned twice": (
        [initialised(), folded(1), published(1), folded(2), published(2), pruned(1)],
        pruned(1),
    ),
    "version pruned twice at once": (
        [initialised(), folded(1), published(1), folded(2), published(2)],
        pruned(1, 1),
    ),
    "retracted and not restated": ([initialised(), folded(1)], retracted(1)),
    "restated without a change": ([initialised(), folded(1)], restated(2, 1)),
    "quarantined although it is in the merge": ([initialised(), folded(1)], quarantined(1)),
    "released although it is in the merge": ([initialised(), folded(1)], released(1)),
    "nothing pruned": ([initialised()], pruned()),
    "not a number": ([initialised()], folded(1, totals={"norm_sum": float("nan")})),
    "infinite": ([initialised()], folded(1, relative_norm=float("inf"))),
}


RESTATEMENTS: dict[str, list[Fact]] = {
    "retracted what is not in": [retracted(3), restated(3, 1)],
    "retracted twice": [retracted(1), retracted(1), restated(3, 0)],
    "admitted what is in": [admitted(1), restated(3, 3)],
    "restated as another count": [retracted(1), restated(3, 2)],
    "restated as another generation": [retracted(1), restated(4, 1)],
    "something between": [retracted(1), discovered(3), restated(3, 1)],
}


class LedgerContract:
    def test_what_was_retracted_is_out_until_it_is_folded_again(self, ledger: LedgerStore) -> None:
        ledger.append(initialised(), folded(1), folded(2), folded(3))
        ledger.append(retracted(1), restated(4, 2))
        assert [fact.name for _, fact in ledger.members()] == ["m2", "m3"]
        assert ledger.by_content(digest(1)) is None
        assert ledger.retraction(digest(1)) == retracted(1)
        assert ledger.retraction(digest(2)) is None
        head = ledger.head()
        assert (head.generation, head.count, head.restated, head.statistics) == (4, 2, True, digest(1004))
        ledger.append(folded(1, generation=5, count=3, revision="r9"))
        assert [fact.name for _, fact in ledger.members()] == ["m2", "m3", "m1"]
        assert ledger.retraction(digest(1)) is None
        assert not ledger.head().restated
        assert ledger.by_content(digest(1)) == folded(1, generation=5, count=3, revision="r9")
        assert ledger.verify() == []

    def test_what_was_deselected_is_out_and_may_be_folded_again(self, ledger: LedgerStore) -> None:
        ledger.append(initialised(), folded(1), folded(2), selected(m1=0.5, m2=0.0))
        ledger.append(deselected(1), deselected(2), restated(3, 0))
        assert list(ledger.members()) == [] and ledger.retraction(digest(1)) is None
        ledger.append(folded(1, generation=4, count=1, weight=0.5))
        assert [fact.weight for _, fact in ledger.members()] == [0.5]
        assert [fact.kind for _, fact in ledger.history()] == ["folded"] * 2 + ["deselected"] * 2 + [
            "restated",
            "folded",
        ]
        assert [fact for _, fact in ledger.facts(kinds=["selected"], newest=1)] == [selected(m1=0.5, m2=0.0)]
        assert ledger.verify() == []

    def test_what_is_held_is_so_until_it_is_folded_or_refused(self, ledger: LedgerStore) -> None:
        ledger.append(initialised(), quarantined(1), quarantined(2), quarantined(3), rejected(4))
        assert [(number, fact.name) for number, fact in ledger.quarantine()] == [(2, "m1"), (3, "m2"), (4, "m3")]
        ledger.append(released(1))
        assert ledger.held(digest(1)) == released(1) and ledger.held(digest(9)) is None
        assert [fact.kind for _, fact in ledger.quarantine()] == ["quarantined", "quarantined", "released"]
        assert [fact.name for _, fact in ledger.quarantine(2)] == ["m3", "m1"]
        assert [fact.name for _, fact in ledger.quarantine(kind="quarantined")] == ["m2", "m3"]
        assert [fact.name for _, fact in ledger.quarantine(1, kind="released")] == ["m1"]
        assert ledger.quarantine_size() == 2
        dropped = rejected(2, content=digest(2), reason="dropped")
        ledger.append(folded(1), dropped)
        assert [fact.name for _, fact in ledger.quarantine()] == ["m3"]
        assert ledger.refusal(digest(2)) == dropped and ledger.refusal(digest(3)) is None
        ledger.append(quarantined(2, revision="again"))
        assert ledger.refusal(digest(2)) is None and ledger.held(digest(2)) == quarantined(2, revision="again")
        assert ledger.verify() == []

    def test_a_release_outlasts_the_fold_until_something_is_held_against_it(self, ledger: LedgerStore) -> None:
        ledger.append(initialised(), quarantined(1), quarantined(2))
        assert ledger.release(digest(1)) is None
        ledger.append(released(1), released(2), folded(1))
        assert ledger.release(digest(1)) == released(1) and ledger.release(digest(2)) == released(2)
        ledger.append(retracted(1), restated(2, 0), quarantined(2, revision="again"))
        assert ledger.release(digest(1)) is ledger.release(digest(2)) is None
        ledger.append(released(2, revision="again"), rejected(2, content=digest(2), reason="dropped"))
        assert ledger.release(digest(2)) is None

    def test_the_same_content_under_another_name_is_held_once(self, ledger: LedgerStore) -> None:
        ledger.append(initialised(), quarantined(1), quarantined(2, content=digest(1)))
        assert [fact.name for _, fact in ledger.quarantine()] == ["m2"]

    def test_what_another_ledger_had_folded_is_a_member(self, ledger: LedgerStore) -> None:
        ledger.append(initialised(), admitted(1), admitted(2), restated(1, 2, how="combined"))
        assert [fact.name for _, fact in ledger.members()] == ["m1", "m2"]
        assert ledger.by_content(digest(2)) == admitted(2)
        ledger.append(folded(3, generation=2))
        assert [fact.name for _, fact in ledger.newest_members(2)] == ["m2", "m3"]
        assert ledger.verify() == []

    def test_members_stream_in_order_from_any_point(self, ledger: LedgerStore) -> None:
        ledger.append(initialised(), *(folded(number) for number in range(1, 150)))
        ledger.append(retracted(70), restated(150, 148))
        numbers = [sequence for sequence, _ in ledger.members()]
        assert numbers == [number for number in range(2, 151) if number != 71]
        assert [sequence for sequence, _ in ledger.members(after=148)] == [149, 150]
        assert [sequence for sequence, _ in ledger.newest_members(3)] == [148, 149, 150]
        assert list(ledger.newest_members(0)) == []

    @pytest.mark.parametrize("case", RESTATEMENTS)
    def test_members_change_as_the_rules_say_or_not_at_all(self, ledger: LedgerStore, case: str) -> None:
        ledger.append(initialised(), folded(1), folded(2))
        with pytest.raises(FatalError):
            ledger.append(*RESTATEMENTS[case])
        assert [fact.name for _, fact in ledger.members()] == ["m1", "m2"]
        assert ledger.head().generation == 2
        assert ledger.verify() == []

    def test_an_empty_ledger_answers_every_question(self, ledger: LedgerStore) -> None:
        assert ledger.initialised() is None
        assert ledger.head() == Head()
        assert ledger.outcomes([("inbox", "m1", "r1")]) == {}
        assert ledger.discovered([("inbox", "m1", "r1")]) == {}
        assert ledger.by_content(digest(1)) is None
        assert list(ledger.facts()) == list(ledger.folds()) == list(ledger.versions()) == []
        assert ledger.counts() == {}
        assert ledger.verify() == []
        assert ledger.append() == 0

    def test_append_numbers_facts_from_one_and_gives_them_back(self, ledger: LedgerStore) -> None:
        assert ledger.append(initialised()) == 1
        assert ledger.append(discovered(1), discovered(2)) == 3
        assert ledger.append() == 3
        assert list(ledger.facts()) == [(1, initialised()), (2, discovered(1)), (3, discovered(2))]

    def test_the_head_follows_folds_and_publications(self, ledger: LedgerStore) -> None:
        ledger.append(initialised(), folded(1), published(1), folded(2))
        newest = folded(2)
        assert ledger.head() == Head(
            generation=2,
            count=2,
            totals=newest.totals,
            statistics=newest.statistics,
            lineage=newest.lineage,
            published_generation=1,
            version=1,
        )
        ledger.append(published(2))
        assert (ledger.head().version, ledger.head().published_generation) == (2, 2)

    def test_an_outcome_is_the_newest_fact_about_exactly_that_revision(self, ledger: LedgerStore) -> None:
        ledger.append(initialised(), discovered(1), rejected(1), discovered(1, revision="r1b"))
        ledger.append(discovered(1, registry="other"), discovered(2))
        keys = [("inbox", "m1", "r1"), ("inbox", "m1", "r1b"), ("other", "m1", "r1"), ("inbox", "m2", "r1")]
        assert ledger.outcomes(keys) == {
            keys[0]: rejected(1),
            keys[1]: discovered(1, revision="r1b"),
            keys[2]: discovered(1, registry="other"),
        }

    def test_discovery_is_the_first_time_a_revision_was_seen(self, ledger: LedgerStore) -> None:
        ledger.append(initialised(), rejected(1), discovered(1), discovered(2), discovered(1))
        keys = [("inbox", "m1", "r1"), ("inbox", "m2", "r2"), ("inbox", "m3", "r3")]
        assert ledger.discovered(keys) == {keys[0]: 3, keys[1]: 4}

    def test_content_finds_the_fold_and_nothing_else(self, ledger: LedgerStore) -> None:
        ledger.append(initialised(), rejected(9, content=digest(9)), folded(1), duplicate(2))
        assert ledger.by_content(digest(1)) == folded(1)
        assert ledger.by_content(digest(9)) is None

    def test_facts_are_chosen_by_kind_and_name_and_cut_to_the_newest(self, ledger: LedgerStore) -> None:
        ledger.append(initialised(), discovered(1), discovered(2), rejected(1), folded(1), published(1))
        assert [number for number, _ in ledger.facts(newest=2)] == [5, 6]
        assert [number for number, _ in ledger.facts(kinds=["rejected", "discovered"])] == [2, 3, 4]
        assert [number for number, _ in ledger.facts(kinds=["discovered", "folded"], newest=2)] == [3, 5]
        assert [number for number, _ in ledger.facts(name="m1")] == [2, 4, 5]
        assert [number for number, _ in ledger.facts(name="m1", kinds=["folded", "rejected"], newest=1)] == [5]
        assert list(ledger.facts(newest=0)) == list(ledger.facts(name="m7")) == []
        assert [number for number, _ in ledger.facts(newest=100)] == [1, 2, 3, 4, 5, 6]
        assert [number for number, _ in ledger.facts(kinds=["folded", "folded"])] == [5]

    def test_folds_stream_in_order_from_any_point(self, ledger: LedgerStore) -> None:
        ledger.append(initialised())
        for number in range(1, 150):
            ledger.append(discovered(number), folded(number))
        assert [fact.generation for _, fact in ledger.folds()] == list(range(1, 150))
        assert [sequence for sequence, _ in ledger.folds(after=299 - 4)] == [297, 299]
        assert list(ledger.folds(after=299)) == []

    def test_versions_are_those_that_were_not_pruned(self, ledger: LedgerStore) -> None:
        ledger.append(initialised())
        for number in (1, 2, 3):
            ledger.append(folded(number), published(number))
        ledger.append(pruned(1))
        assert [fact.version for fact in ledger.versions()] == [2, 3]
        ledger.append(folded(4), published(4), pruned(2, 3))
        assert [fact.version for fact in ledger.versions()] == [4]

    @pytest.mark.parametrize("case", ILLEGAL)
    def test_a_fact_that_cannot_follow_is_refused(self, ledger: LedgerStore, case: str) -> None:
        before, illegal = ILLEGAL[case]
        if before:
            ledger.append(*before)
        with pytest.raises(FatalError) as refused:
            ledger.append(illegal)
        assert refused.value.message
        assert [fact for _, fact in ledger.facts()] == before
        assert ledger.verify() == []

    def test_one_illegal_fact_refuses_all_that_are_appended_with_it(self, ledger: LedgerStore) -> None:
        ledger.append(initialised())
        with pytest.raises(FatalError):
            ledger.append(discovered(1), folded(1), folded(2, content=digest(1)))
        assert list(ledger.facts()) == [(1, initialised())]
        assert ledger.counts() == {"initialised": 1}
        assert ledger.append(folded(1)) == 2

    def test_names_are_told_apart_byte_by_byte(self, ledger: LedgerStore) -> None:
        names = ["m", "M", "m ", "é", "e\u0301", "m\0", "m\0x", "\udc80", "\\udc80", "1", "1.0", "%", "'"]
        ledger.append(initialised(), *(discovered(1, name=name) for name in names))
        for number, name in enumerate(names, start=2):
            key = ("inbox", name, "r1")
            assert ledger.outcomes([key]) == {key: discovered(1, name=name)}
            assert ledger.discovered([key]) == {key: number}
            assert [sequence for sequence, _ in ledger.facts(name=name)] == [number]
        assert ledger.verify() == []
