"""The contributions that manifests list: the same as the ledger's, asked for once."""

from __future__ import annotations

import pytest

from mergenode.daemon import recent
from mergenode.daemon.manifest import contribution_entry
from mergenode.daemon.recent import RecentMembers
from mergenode.types import Head
from tests.support import facts
from tests.support.memory_ledger import MemoryLedger

GROUPS = ({"group": "*", "share_kept": 0.5, "cosine": None}, {"group": "layers.0", "share_kept": 0.25})


class Counted(MemoryLedger):
    decoded = 0

    def newest_members(self, count):
        found = super().newest_members(count)
        self.decoded += len(found)
        return found


def ledger_with(count: int) -> Counted:
    ledger = Counted()
    ledger.append(facts.initialised())
    for number in range(1, count + 1):
        ledger.append(facts.folded(number, groups=GROUPS, warnings=("odd",)))
    return ledger


def test_nothing_folded() -> None:
    assert RecentMembers().of(ledger_with(0), Head()) == ()


@pytest.mark.parametrize("steps", [[5], [1, 2, 3, 4, 5], [2, 5], [3, 3, 5, 5]])
def test_however_often_it_is_asked_the_entries_are_those_of_the_ledger(steps: list[int]) -> None:
    kept = RecentMembers()
    for step in steps:
        found = kept.of(ledger_with(step), ledger_with(step).head())
        whole = [fact for _, fact in ledger_with(step).folds()]
        assert [contribution_entry(fact) for fact in found] == [contribution_entry(fact) for fact in whole]
        assert found[-1] == whole[-1], "the newest keeps its report per layer group"


def test_only_new_facts_are_read() -> None:
    kept, ledger = RecentMembers(), ledger_with(10)
    kept.of(ledger, ledger.head())
    assert ledger.decoded == 10
    ledger.append(facts.folded(11))
    kept.of(ledger, ledger.head())
    kept.of(ledger, ledger.head())
    assert ledger.decoded == 11


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "LISTED_CONTRIBUTIONS", 4)
    kept, ledger = RecentMembers(), ledger_with(9)
    assert [fact.generation for fact in kept.of(ledger, ledger.head())] == [6, 7, 8, 9]
    assert ledger.decoded == 4
    ledger.append(facts.folded(10))
    assert [fact.generation for fact in kept.of(ledger, ledger.head())] == [7, 8, 9, 10]
    assert all(len(fact.groups) <= 1 for fact in kept.of(ledger, ledger.head())[:-1])


def test_after_a_change_of_the_merge_what_left_is_listed_no_more() -> None:
    kept, ledger = RecentMembers(), ledger_with(4)
    kept.of(ledger, ledger.head())
    ledger.append(facts.retracted(2), facts.restated(5, 3))
    assert [fact.name for fact in kept.of(ledger, ledger.head())] == ["m1", "m3", "m4"]
    ledger.append(facts.folded(2, generation=6, count=4))
    assert [fact.name for fact in kept.of(ledger, ledger.head())] == ["m1", "m3", "m4", "m2"]
    ledger.append(facts.retracted(1), facts.restated(7, 3))
    ledger.append(facts.folded(1, generation=8, count=4))
    assert [fact.name for fact in kept.of(ledger, ledger.head())] == ["m3", "m4", "m2", "m1"]
