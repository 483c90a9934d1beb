"""Which contributions came in with which version, and what left."""

from __future__ import annotations

from mergenode.adapters.http.page import recent as recent_module
from mergenode.adapters.http.page.recent import read_recent
from mergenode.adapters.http.page.timeline import steps, timeline_section
from tests.support import facts
from tests.support.memory_ledger import MemoryLedger


def ledger() -> MemoryLedger:
    """Two in the first version, one in the second, of which one leaves for the third; one more is not published."""
    told = MemoryLedger()
    told.append(facts.initialised(), facts.folded(1), facts.folded(2), facts.published(1, generation=2))
    told.append(facts.folded(3), facts.published(2, generation=3), facts.pruned(1))
    told.append(
        facts.retracted(1, why="asked for"), facts.restated(4, 2, rollback_to=1), facts.published(3, generation=4)
    )
    told.append(facts.folded(4, generation=5, count=3))
    return told


def test_each_version_has_what_changed_since_the_one_before() -> None:
    found = steps(read_recent(ledger()))
    told = [
        (
            step.version.version if step.version else None,
            [fact.name for fact in step.came],
            [fact.name for fact in step.left],
        )
        for step in found
    ]
    assert told == [(None, ["m4"], []), (3, [], ["m1"]), (2, ["m3"], []), (1, ["m1", "m2"], [])]
    assert all(step.complete for step in found)


def test_it_is_told_in_words() -> None:
    told = timeline_section(read_recent(ledger()), [])
    for said in ("not published yet", "latest", "files removed", "rolled back to v1", "retracted: asked for"):
        assert told.count(said) == 1, said


def test_who_left_is_not_in_the_merge_any_more() -> None:
    assert [fact.name for fact in read_recent(ledger()).members] == ["m2", "m3", "m4"]


def test_the_oldest_that_is_known_says_that_there_was_more(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(recent_module, "FOLDS", 2)
    monkeypatch.setattr(recent_module, "LEAST_FOLDS", 2)
    recent = read_recent(ledger())
    assert recent.cut and [fact.name for fact in recent.folds] == ["m3", "m4"]
    assert [step.complete for step in steps(recent)] == [True, True, False]
    assert "and what came before" in timeline_section(recent, [])
