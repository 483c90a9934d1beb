"""Side-cars in a registry: part of the entry that they lie in or beside, never an entry of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mergenode.adapters.registries.folder import FolderRegistry
from mergenode.adapters.registries.marker import read_marker, write_marker
from mergenode.errors import RejectedError, RejectReason
from tests.support.clock import FakeClock
from tests.support.registry_files import safetensors_bytes, write_sharded, write_single


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def registry(tmp_path: Path, clock: FakeClock) -> FolderRegistry:
    (tmp_path / "inbox").mkdir()
    return FolderRegistry(tmp_path / "inbox", "inbox", clock=clock, settle_seconds=0.0, settle_polls=1)


def listed(registry: FolderRegistry) -> dict[str, str]:
    return {candidate.name: candidate.revision for candidate in registry.list().candidates}


def side_car(path: Path, *, missing_bytes: int = 0) -> Path:
    content = safetensors_bytes(elements=9)
    path.write_bytes(content[: len(content) - missing_bytes])
    return path


def test_a_side_car_beside_a_bare_file_is_no_checkpoint(tmp_path: Path, registry: FolderRegistry) -> None:
    (tmp_path / "inbox" / "maths.safetensors").write_bytes(safetensors_bytes())
    side_car(tmp_path / "inbox" / "maths.gram.safetensors")
    side_car(tmp_path / "inbox" / "stray.fisher.safetensors")
    assert list(listed(registry)) == ["maths.safetensors"]


@pytest.mark.parametrize("bare", [True, False])
def test_another_side_car_is_another_revision(tmp_path: Path, registry: FolderRegistry, bare: bool) -> None:
    """What a method that does not use it finds is a duplicate then; one that does finds another contribution."""
    if bare:
        (tmp_path / "inbox" / "maths.safetensors").write_bytes(safetensors_bytes())
        place = tmp_path / "inbox" / "maths.gram.safetensors"
    else:
        place = write_single(tmp_path / "inbox" / "maths") / "model.gram.safetensors"
    (without,) = listed(registry).values()
    side_car(place)
    (with_it,) = listed(registry).values()
    os.utime(place, ns=(1, 1))
    (touched,) = listed(registry).values()
    assert len({without, with_it, touched}) == 3


@pytest.mark.parametrize("bare", [True, False])
def test_a_side_car_that_still_grows_is_waited_for(tmp_path: Path, registry: FolderRegistry, bare: bool) -> None:
    if bare:
        (tmp_path / "inbox" / "maths.safetensors").write_bytes(safetensors_bytes())
        place = tmp_path / "inbox" / "maths.fisher.safetensors"
    else:
        place = write_sharded(tmp_path / "inbox" / "maths") / "model.fisher.safetensors"
    side_car(place, missing_bytes=5)
    listing = registry.list()
    assert not listing.candidates
    assert "fisher.safetensors is" in listing.unsettled[0].why
    side_car(place)
    assert len(registry.list().candidates) == 1


def test_a_side_car_alone_has_no_weights_yet(tmp_path: Path, registry: FolderRegistry) -> None:
    (tmp_path / "inbox" / "maths").mkdir()
    side_car(tmp_path / "inbox" / "maths" / "model.gram.safetensors")
    assert registry.list().unsettled[0].why == "no weights yet"
    with pytest.raises(RejectedError) as caught:
        write_marker(tmp_path / "inbox" / "maths")
    assert caught.value.reason is RejectReason.NO_WEIGHTS


@pytest.mark.parametrize("bare", [True, False])
def test_a_marker_promises_side_cars_too(tmp_path: Path, registry: FolderRegistry, bare: bool) -> None:
    if bare:
        checkpoint = tmp_path / "inbox" / "maths.safetensors"
        checkpoint.write_bytes(safetensors_bytes())
        place = side_car(tmp_path / "inbox" / "maths.gram.safetensors")
    else:
        checkpoint = write_single(tmp_path / "inbox" / "maths")
        place = side_car(checkpoint / "model.gram.safetensors")
    write_marker(checkpoint)
    marker = read_marker(checkpoint)
    assert marker is not None
    assert marker.files[place.name].size == place.stat().st_size
    assert registry.list().candidates[0].attested
    place.unlink()
    listing = registry.list()
    assert not listing.candidates
    assert f"file {place.name} of the commit marker is missing" in listing.unsettled[0].why
