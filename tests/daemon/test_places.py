"""Which trace a version belongs to: everything that entered or left since the version before."""

from __future__ import annotations

import pytest

from mergenode.daemon.places import place_of, publishing
from mergenode.errors import TransientError, TransientReason
from mergenode.ledger.actions import Fold, Publish, Wait
from mergenode.ledger.traces import trace_of
from mergenode.tracing.context import at
from mergenode.tracing.ids import merge_trace
from mergenode.tracing.spans import MOST_LINKS
from mergenode.types import Candidate
from tests.support import facts
from tests.support.memory_ledger import MemoryLedger


def ledger_of(folds: int, published: int) -> MemoryLedger:
    """So many folds, and a version after each of the first ``published``."""
    ledger = MemoryLedger()
    ledger.append(facts.initialised())
    for number in range(1, folds + 1):
        ledger.append(facts.folded(number, generation=number, count=number))
        if number <= published:
            ledger.append(facts.published(number, generation=number))
    return ledger


def trace(number: int) -> str:
    return trace_of(facts.folded(number))


@pytest.mark.parametrize("new", [1, 2, 3, 20, MOST_LINKS, MOST_LINKS + 5])
def test_the_newest_first_linked_to_the_others_since_the_last_version(new: int) -> None:
    place = publishing(ledger_of(2 + new, 2))
    told = [trace(number) for number in range(2 + new, 2, -1)][:MOST_LINKS]
    assert place == at(told[0], links=tuple(told[1:]))


def test_a_version_of_nothing_new_has_an_id_of_its_merge() -> None:
    ledger = ledger_of(2, 2)
    assert publishing(ledger) == at(merge_trace(ledger.head().lineage or ""))
    assert publishing(MemoryLedger()) == at(merge_trace(""))


def test_the_place_of_each_action() -> None:
    ledger = ledger_of(1, 0)
    candidate = Candidate("inbox", "m1", "r1", "/inbox/m1")
    fold = place_of(Fold(candidate), ledger)
    assert fold is not None and fold.trace_id == trace_of(facts.discovered(1, revision="r1"))
    assert place_of(Publish(1, 1), ledger) == at(trace(1))
    assert place_of(Wait(1.0, "nothing"), ledger) is None


def test_a_ledger_that_cannot_be_read_leaves_the_place_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise TransientError(TransientReason.DISK_FULL, "no")

    ledger = ledger_of(1, 0)
    monkeypatch.setattr(ledger, "facts", broken)
    assert place_of(Publish(1, 1), ledger) is None
