"""Killed before any durable operation: what is visible is whole, and the next life ends where it should."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

from mergenode.adapters.peers.weights.blob_service import BlobService
from mergenode.adapters.peers.weights.fetching import Fetcher, FetchSettings, Order
from mergenode.adapters.peers.weights.shelf import Shelf, ShelfLimits
from mergenode.adapters.peers.weights.sources import Patience, Source
from mergenode.errors import FatalError
from mergenode.wire.blocks import BLOCK_BYTES, Root, block_id
from tests.support.dead_after import dead_after
from tests.support.peer_servers import insecure_channel, serving
from tests.support.stored_models import noise, store, tensors_of

QUICK = FetchSettings(patience=Patience(first_pause=0.01, longest_pause=0.05))


def opened(folder: Path) -> Shelf:
    return Shelf(folder, time.monotonic, ShelfLimits(min_free=0))


def assert_sound(folder: Path) -> None:
    """Everything that a new life sees is whole."""
    shelf = opened(folder)
    for root, manifest in shelf.manifests().items():
        reader = shelf.open(root)
        assert reader is not None
        with reader:
            for place in manifest.places():
                assert block_id(reader.read(place.index, memoryview(bytearray(BLOCK_BYTES)))) == place.id
    assert not [name for name in os.listdir(folder) if name.startswith(".") and not name.endswith(".fetching")]


def fresh(folder: Path) -> Path:
    (folder / "lives").mkdir()
    return folder / "lives"


def every_death(folder: Path, live: Callable[[Path], None]) -> int:
    """Live in a new folder, dying one operation later each time, until a life is survived; how many died."""
    for operations in itertools.count():
        place = folder / str(operations)
        place.mkdir()
        with dead_after(operations) as life:
            try:
                live(place)
            except FatalError:
                assert life.died  # the thread that syncs died first
        assert_sound(place / "shelf")
        live(place)
        assert_sound(place / "shelf")
        if not life.died:
            return operations
    raise AssertionError


def test_a_fetch_that_dies_anywhere_is_completed_by_the_next_life(tmp_path: Path) -> None:
    same = noise(1, 3000)
    file = store(tmp_path / "m.safetensors", {"a": same, "b": noise(2, 500), "c": same, "d": noise(3, 0)})
    served = Shelf(tmp_path / "served", time.monotonic)
    manifest = served.put([file])
    with serving(BlobService(served)) as server:

        def live(folder: Path) -> None:
            shelf = opened(folder / "shelf")
            order = Order(manifest.root, lambda: [Source("a", server.address)])
            assert Fetcher(shelf, insecure_channel, settings=QUICK).fetch(order)
            whole = shelf.whole(manifest.root)
            assert whole is not None and tensors_of(whole) == tensors_of(file)

        assert every_death(fresh(tmp_path), live) > 20


def test_an_offer_that_dies_anywhere_is_absent_or_whole(tmp_path: Path) -> None:
    files = [store(tmp_path / f"{name}.safetensors", {name: noise(1, 300)}) for name in "ab"]
    whole = store(tmp_path / "whole.safetensors", {"a": noise(1, 300), "b": noise(1, 300)})
    roots: set[Root] = set()

    def live(folder: Path) -> None:
        shelf = opened(folder / "shelf")
        roots.add(shelf.put(files).root)
        roots.add(shelf.put([whole]).root)
        assert shelf.whole(next(iter(roots))) is not None
        shelf.retain(roots)

    assert every_death(fresh(tmp_path), live) > 15
    assert len(roots) == 1


def test_a_removal_that_dies_anywhere_leaves_nothing_half(tmp_path: Path) -> None:
    file = store(tmp_path / "m.safetensors", {"a": noise(1, 300)})

    def live(folder: Path) -> None:
        shelf = opened(folder / "shelf")
        shelf.drop(shelf.put([file]).root)
        assert os.listdir(folder / "shelf") == []

    assert every_death(fresh(tmp_path), live) > 8
