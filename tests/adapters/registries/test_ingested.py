"""What an operator asked for from outside of all registries stays in the pool while it is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mergenode.adapters.registries.ingested import IngestedRegistry, past_requests
from mergenode.types import Candidate
from tests.support.facts import discovered, initialised
from tests.support.memory_ledger import MemoryLedger


def test_an_answered_request_is_listed_while_its_files_are_there(tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    model.touch()
    asked = Candidate("ingest", "model", "r1", str(model), forced=True)
    registry = IngestedRegistry()
    registry.settled(replace(asked, registry="inbox"))
    assert registry.list().candidates == ()
    registry.settled(asked)
    assert registry.list().candidates == (replace(asked, forced=False),)
    model.unlink()
    assert registry.list().candidates == ()


def test_after_a_restart_the_ledger_knows_them(tmp_path: Path) -> None:
    ledger = MemoryLedger()
    ledger.append(initialised(), discovered(1), discovered(2, registry="ingest", location=str(tmp_path)))
    found = IngestedRegistry(past_requests(ledger)).list().candidates
    assert [(entry.name, entry.location, entry.forced) for entry in found] == [("m2", str(tmp_path), False)]
