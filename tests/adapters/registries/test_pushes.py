"""The registry of pushes: a directory whose entries are complete when they appear."""

from __future__ import annotations

from pathlib import Path

from mergenode.adapters.registries.marker import write_marker
from mergenode.adapters.registries.pushes import PushesRegistry, pushes_directory
from mergenode.types import Candidate
from tests.support.checkpoints import base_tensors, write_single
from tests.support.clock import FakeClock


def put(state: Path, name: str) -> None:
    hidden = write_single(pushes_directory(state) / f".{name}", base_tensors())
    write_marker(hidden, weight=0.5)
    hidden.rename(hidden.with_name(name))


def test_what_appears_is_offered_at_once_with_the_terms_of_its_marker(tmp_path: Path) -> None:
    registry = PushesRegistry(tmp_path, clock=FakeClock())
    assert registry.list().candidates == () and registry.name == "push"
    put(tmp_path, "tuned@0123")
    (candidate,) = registry.list().candidates
    assert (candidate.registry, candidate.name, candidate.weight) == ("push", "tuned@0123", 0.5)
    assert candidate.attested
    registry.close()


def test_it_tidies_before_it_lists_and_passes_on_its_own_outcomes(tmp_path: Path) -> None:
    order: list[object] = []
    registry = PushesRegistry(
        tmp_path, clock=FakeClock(), settled=order.append, tidy=lambda: put(tmp_path, "a") if not order else None
    )
    (mine,) = registry.list().candidates
    registry.settled(Candidate("inbox", "a", "1", "/inbox/a"))
    assert order == []
    registry.settled(mine)
    assert order == [mine]
