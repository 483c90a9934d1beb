"""Replication: newest first, superseded ones dropped, failures tried again, refusals final."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from mergenode.adapters.peers.weights.blob_calls import UnusableModel
from mergenode.adapters.peers.weights.blob_service import BlobService
from mergenode.adapters.peers.weights.fetching import Fetcher, FetchSettings
from mergenode.adapters.peers.weights.replication import Replication, Want
from mergenode.adapters.peers.weights.shelf import Shelf, ShelfLimits
from mergenode.adapters.peers.weights.sources import Patience, Source
from mergenode.wire.blocks import Root
from mergenode.wire.manifest import Manifest
from tests.support.peer_servers import ThreadedServer, insecure_channel
from tests.support.relay import Faults, Relay
from tests.support.stored_models import MIB, noise, store, tensors_of
from tests.support.transfer_notes import TransferNotes

NODE = UUID(int=1)


class World:
    """One node that serves behind a relay, one that replicates what ``wanted`` says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.served = Shelf(folder / "served", time.monotonic)
        self.service = BlobService(self.served)
        self.server = ThreadedServer(self.service)
        self.relay = Relay(("127.0.0.1", self.server.port))
        self.notes = TransferNotes()
        self.shelf = Shelf(folder / "shelf", time.monotonic, ShelfLimits(min_free=0), self.notes)
        self.wanted: list[Want] = []
        self.arrived: list[Root] = []
        self.refused: list[tuple[Root, str]] = []
        self.changed = threading.Condition()
        patience = Patience(idle_seconds=20.0, first_pause=0.01, longest_pause=0.05)
        fetcher = Fetcher(self.shelf, insecure_channel, self.notes, settings=FetchSettings(patience=patience))
        self.replication = Replication(
            self.shelf, fetcher, lambda: list(self.wanted), self._arrived, self._refused, self.notes, patience=patience
        )

    def offer(self, name: str, tensors: dict[str, object]) -> Manifest:
        return self.served.put([store(self.folder / f"{name}.safetensors", tensors)])  # type: ignore[arg-type]  # arrays

    def want(self, manifest: Manifest, schema: bytes | None = None) -> Want:
        sources = [Source("a", self.relay.address)]
        return Want(manifest.root, NODE, schema or manifest.schema_hash, lambda: sources)

    def until(self, happened: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(happened, 30)

    def tell(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def close(self) -> None:
        self.replication.stop()
        self.relay.close()
        self.server.stop()
        self.service.close()

    def _arrived(self, root: Root) -> None:
        self.arrived.append(root)
        self.tell()

    def _refused(self, want: Want, error: UnusableModel) -> None:
        self.refused.append((want.root, error.reason.value))
        self.tell()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.replication.start()
    yield world
    world.close()


def test_everything_that_is_wanted_arrives(world: World) -> None:
    models = [world.offer(str(seed), {"a": noise(seed, MIB)}) for seed in range(4)]
    world.wanted = [world.want(model) for model in models]
    world.replication.poke()
    world.until(lambda: len(world.arrived) == 4)
    assert set(world.arrived) == {model.root for model in models} == set(world.shelf.manifests())


def test_what_was_superseded_is_given_up_and_what_it_brought_is_used(world: World) -> None:
    shared = {f"s{number}": noise(number, MIB) for number in range(8)}
    old = world.offer("old", {**shared, "x": noise(90, MIB)})
    new = world.offer("new", {**shared, "x": noise(91, MIB)})
    world.relay.set(Faults(swallow_after=[None, 5 * MIB]))
    began, report = threading.Event(), world.notes.progress

    def progress(made: object) -> None:
        report(made)  # type: ignore[arg-type]  # as it came
        if world.notes.reported[-1].done >= 3 * MIB:
            began.set()

    world.notes.progress = progress  # type: ignore[method-assign]  # a tap
    world.wanted = [world.want(old)]
    world.replication.poke()
    assert began.wait(30)
    world.relay.set(Faults())
    world.wanted = [world.want(new)]
    world.relay.cut()
    world.replication.poke()
    world.until(lambda: bool(world.arrived))
    assert world.arrived == [new.root]
    whole = world.shelf.whole(new.root)
    assert whole is not None and tensors_of(whole) == tensors_of(world.folder / "new.safetensors")
    assert world.notes.counts["deduplicated"] >= 2 * MIB
    third = world.offer("third", {"x": noise(92, 10)})
    world.wanted = [world.want(third)]
    world.replication.poke()
    world.until(lambda: third.root in world.arrived)
    assert world.shelf.stagings() == []


def test_a_model_that_nobody_should_use_is_refused_once(world: World) -> None:
    model = world.offer("m", {"a": noise(1, 100)})
    world.wanted = [world.want(model, schema=bytes(32))]
    world.replication.poke()
    world.until(lambda: bool(world.refused))
    good = world.offer("good", {"a": noise(2, 100)})
    world.wanted = [*world.wanted, world.want(good)]
    world.replication.poke()
    world.until(lambda: bool(world.arrived))
    assert world.refused == [(model.root, "shape_mismatch")] and world.arrived == [good.root]


def test_what_fails_for_now_is_tried_again(world: World) -> None:
    model = world.offer("m", {"a": noise(1, MIB)})
    world.shelf.limits = ShelfLimits(total_bytes=10, min_free=0)
    postponed = world.notes.postponed

    def free(root: Root, message: str) -> None:
        postponed(root, message)
        world.shelf.limits = ShelfLimits(min_free=0)

    world.notes.postponed = free  # type: ignore[method-assign]  # a tap
    world.wanted = [world.want(model)]
    world.replication.poke()
    world.until(lambda: bool(world.arrived))
    assert world.notes.counts["postponed"] == 1


def test_it_stops_in_the_middle_of_everything(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.replication.start()
    model = world.offer("m", dict.fromkeys("abcdefgh", noise(1, 10)) | {"z": noise(2, 8 * MIB)})
    world.relay.set(Faults(rate=1e6))
    world.wanted = [world.want(model)]
    world.replication.poke()
    world.close()
    assert world.arrived == [] and world.shelf.manifests() == {}
    assert not [thread for thread in threading.enumerate() if thread.name in ("replication", "fetching", "landing")]
