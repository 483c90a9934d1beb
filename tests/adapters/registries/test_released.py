"""What was released is offered again, beside what the operator asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergenode.adapters.registries.released import WithReleased
from mergenode.errors import TransientError, TransientReason
from mergenode.types import Candidate
from tests.support.facts import folded, initialised, quarantined, released
from tests.support.fake_ports import FakeRegistry, Trouble
from tests.support.memory_ledger import MemoryLedger


@pytest.fixture
def ledger() -> MemoryLedger:
    ledger = MemoryLedger()
    ledger.append(initialised(), quarantined(1), quarantined(2))
    return ledger


def released_at(place: Path, number: int = 2, **changes: object) -> Candidate:
    place.mkdir(exist_ok=True)
    return Candidate("inbox", f"m{number}", f"r{number}", str(place), **changes)  # type: ignore[arg-type]  # any field


def test_only_what_was_released_is_offered_as_it_was(ledger: MemoryLedger, tmp_path: Path) -> None:
    asked = Candidate("inbox", "asked", "r1", "/asked", forced=True)
    requests = FakeRegistry(Trouble(), "ingest", requests=[asked])
    registry = WithReleased(requests, ledger)
    assert registry.name == "ingest" and registry.list().candidates == (asked,)
    ledger.append(released(2, location=str(tmp_path), weight=0.5, profile={"b*": 2.0, "a*": 1.0}))
    expected = released_at(tmp_path, weight=0.5, profile=(("a*", 1.0), ("b*", 2.0)))
    assert registry.list().candidates == (asked, expected)
    ledger.append(folded(1, content=released(2).content))
    assert registry.list().candidates == (asked,)


def test_what_an_operator_named_may_be_a_link_again(ledger: MemoryLedger, tmp_path: Path) -> None:
    ledger.append(released(2, registry="ingest", location=str(tmp_path)))
    (offered,) = WithReleased(FakeRegistry(Trouble(), "ingest"), ledger).list().candidates
    assert offered.forced


def test_files_that_are_gone_wait_until_they_are_back(ledger: MemoryLedger, tmp_path: Path) -> None:
    ledger.append(released(2, location=str(tmp_path / "away")))
    registry = WithReleased(FakeRegistry(Trouble(), "ingest"), ledger)
    assert registry.list().candidates == ()
    released_at(tmp_path / "away")
    assert len(registry.list().candidates) == 1


def test_a_directory_of_requests_that_cannot_be_read_is_told(ledger: MemoryLedger) -> None:
    trouble = Trouble()
    trouble.plan("list ingest", TransientError(TransientReason.REGISTRY_UNREACHABLE, "away"))
    with pytest.raises(TransientError, match="away"):
        WithReleased(FakeRegistry(trouble, "ingest"), ledger).list()
