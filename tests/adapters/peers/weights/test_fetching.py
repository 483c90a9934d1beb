"""Fetching over real sockets through a relay that breaks lines: the model arrives whole, or there is none."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from mergenode.adapters.peers.weights.blob_calls import UnusableModel
from mergenode.adapters.peers.weights.blob_service import BlobService, ServingLimits
from mergenode.adapters.peers.weights.fetching import Fetcher, FetchSettings, Order
from mergenode.adapters.peers.weights.shelf import Shelf, ShelfLimits
from mergenode.adapters.peers.weights.sources import Patience, Source
from mergenode.errors import RejectReason, TransientError, TransientReason
from mergenode.wire.blocks import BLOCK_BYTES, Root
from mergenode.wire.encoding import Encoding
from mergenode.wire.limits import WireLimits
from mergenode.wire.manifest import Manifest
from tests.support.certificates import Authority
from tests.support.peer_servers import ThreadedServer, insecure_channel, secure_channel
from tests.support.relay import Faults, Relay
from tests.support.stored_models import MIB, noise, noisy_model, store, tensors_of
from tests.support.transfer_notes import TransferNotes

QUICK = FetchSettings(patience=Patience(idle_seconds=1.0, first_pause=0.01, longest_pause=0.05))
PATIENT = FetchSettings(patience=Patience(idle_seconds=60.0, first_pause=0.01, longest_pause=0.05))
"""For lines whose faults are counted by connection: a busy machine opens no further one."""


class Peer:
    """A node that serves, and a relay in front of it."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.shelf, self.notes = Shelf(folder / "shelf", time.monotonic), TransferNotes()
        self.service = BlobService(self.shelf, self.notes, ServingLimits(retry_after_ms=20))
        self.server = ThreadedServer(self.service, **options)  # type: ignore[arg-type]  # what the server takes
        self.relay = Relay(("127.0.0.1", self.server.port))
        self.source = Source(folder.name, self.relay.address)

    def close(self) -> None:
        self.relay.close()
        self.server.stop()
        self.service.close()


class Receiver:
    def __init__(self, folder: Path, limits: ShelfLimits | None = None, settings: FetchSettings = QUICK) -> None:
        self.folder, self.limits, self.settings = folder, limits or ShelfLimits(min_free=0), settings
        self.channel_of = insecure_channel
        self.accused: list[tuple[str, str]] = []
        self.restart()

    def restart(self) -> None:
        """Another life: nothing is remembered but what is on disk."""
        self.notes = TransferNotes()
        self.shelf = Shelf(self.folder / "shelf", time.monotonic, self.limits, self.notes)
        self.fetcher = Fetcher(self.shelf, self.open_channel, self.notes, self._accuse, self.settings)

    def open_channel(self, address: str) -> grpc.Channel:
        return self.channel_of(address)

    def fetch(self, manifest: Manifest, *sources: Source, schema: bytes | None = None) -> bool:
        return self.fetcher.fetch(Order(manifest.root, lambda: sources, schema))

    def tensors(self, manifest: Manifest) -> dict[str, bytes]:
        whole = self.shelf.whole(manifest.root)
        assert whole is not None
        return tensors_of(whole)

    def _accuse(self, source: Source, code: str, message: str) -> None:
        self.accused.append((source.name, code))


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    peer = Peer(tmp_path / "a")
    yield peer
    peer.close()


@pytest.fixture
def receiver(tmp_path: Path) -> Receiver:
    return Receiver(tmp_path / "receiver")


def offered(peer: Peer, tmp_path: Path, sizes: tuple[int, ...], seed: int = 0) -> tuple[Manifest, dict[str, bytes]]:
    file = noisy_model(tmp_path / f"{seed}.safetensors", sizes, seed)
    return peer.shelf.put([file]), tensors_of(file)


def test_a_model_arrives_with_progress(peer: Peer, receiver: Receiver, tmp_path: Path) -> None:
    manifest, tensors = offered(peer, tmp_path, (MIB, 2 * BLOCK_BYTES + 10, 30, 0))
    assert receiver.fetch(manifest, peer.source, schema=manifest.schema_hash)
    assert receiver.tensors(manifest) == tensors
    assert [progress.done for progress in receiver.notes.reported][-1] == manifest.total_bytes
    assert receiver.notes.reported[-1].remaining == 0.0
    assert {progress.peer for progress in receiver.notes.reported} == {peer.source.name}
    assert receiver.notes.counts["left"] == 1
    assert receiver.notes.counts["active_in"] == 0 and receiver.notes.counts["fetched"] == 1
    assert receiver.fetch(manifest), "it is here: nobody is asked"


def test_an_empty_model_arrives(peer: Peer, receiver: Receiver, tmp_path: Path) -> None:
    manifest = peer.shelf.put([store(tmp_path / "none.safetensors", {"a": noise(0, 0)})])
    assert receiver.fetch(manifest, peer.source) and receiver.tensors(manifest) == {"a": b""}


def test_only_changed_tensors_travel_and_those_as_differences(peer: Peer, receiver: Receiver, tmp_path: Path) -> None:
    base = {f"t{number}": noise(number, 2 * MIB) for number in range(4)}
    tuned = {**base, "t1": base["t1"] + (base["t1"] % 100 == 0).astype(np.int16)}
    receiver.shelf.put([store(tmp_path / "base.safetensors", base)])
    peer.shelf.put([tmp_path / "base.safetensors"])
    manifest = peer.shelf.put([store(tmp_path / "tuned.safetensors", tuned)])
    assert receiver.fetch(manifest, peer.source)
    assert receiver.tensors(manifest) == tensors_of(tmp_path / "tuned.safetensors")
    assert receiver.notes.counts["deduplicated"] == 6 * MIB
    assert dict(receiver.notes.blocks) == {("in", Encoding.ORDERED_SPLIT_ZSTD): 1}
    assert receiver.notes.wire["in", Encoding.ORDERED_SPLIT_ZSTD] < 0.3 * 2 * MIB


def test_equal_tensors_travel_once(peer: Peer, receiver: Receiver, tmp_path: Path) -> None:
    same = noise(1, MIB)
    manifest = peer.shelf.put([store(tmp_path / "m.safetensors", {"a": same, "b": same, "c": noise(2, 10)})])
    assert receiver.fetch(manifest, peer.source)
    assert receiver.tensors(manifest) == tensors_of(tmp_path / "m.safetensors")
    assert receiver.notes.counts["in_bytes"] == MIB + 10 and receiver.notes.counts["deduplicated"] == MIB


def test_it_goes_on_after_every_cut(peer: Peer, receiver: Receiver, tmp_path: Path) -> None:
    manifest, tensors = offered(peer, tmp_path, (2 * MIB,) * 12)
    peer.relay.set(Faults(cut_after=[None, 3 * MIB, 5 * MIB, 4 * MIB]))
    assert receiver.fetch(manifest, peer.source)
    assert receiver.tensors(manifest) == tensors
    assert peer.relay.counts["cut"] == 3
    assert receiver.notes.counts["in_bytes"] == manifest.total_bytes, "no block that was verified came twice"
    assert peer.relay.counts["down"] < manifest.total_bytes + 3 * 2 * 2 * MIB, "a block and what was under way"


def test_another_life_goes_on_from_the_journal(peer: Peer, receiver: Receiver, tmp_path: Path) -> None:
    manifest, tensors = offered(peer, tmp_path, (2 * MIB,) * 12)
    peer.relay.set(Faults(swallow_after=[None, 13 * MIB]))
    stopping = threading.Thread(target=receiver.fetcher.stop)
    original = receiver.notes.progress

    def stop_half_way(progress: object) -> None:
        original(progress)  # type: ignore[arg-type]  # as it came
        if len(receiver.notes.reported) == 6:
            stopping.start()

    receiver.notes.progress = stop_half_way  # type: ignore[method-assign]  # a tap
    assert not receiver.fetch(manifest, peer.source)
    stopping.join()
    assert receiver.shelf.whole(manifest.root) is None and receiver.shelf.manifests() == {}
    peer.relay.set(Faults())
    receiver.restart()
    assert receiver.fetch(manifest, peer.source)
    assert receiver.tensors(manifest) == tensors
    (resumed,) = receiver.notes.resumes
    assert resumed[0] >= 12 * MIB and resumed[0] + receiver.notes.counts["in_bytes"] == manifest.total_bytes


def test_what_an_earlier_life_wrote_is_hashed_before_the_end(peer: Peer, receiver: Receiver, tmp_path: Path) -> None:
    manifest, tensors = offered(peer, tmp_path, (2 * MIB,) * 4)
    receiver.fetcher.fetch(Order(manifest.root, lambda: [peer.source]))
    whole, staging = receiver.shelf.whole(manifest.root), receiver.shelf.staging(manifest.root)
    assert whole is not None
    data = bytearray(whole.read_bytes())
    receiver.shelf.drop(manifest.root)
    peer.relay.set(Faults(cut_after=[5 * MIB], refuse=False))
    stopped = threading.Event()
    receiver.restart()
    receiver.notes.progress = lambda progress: stopped.set()  # type: ignore[method-assign]  # a tap
    receiver.fetcher.fetch(Order(manifest.root, lambda: [peer.source], wanted=lambda: not stopped.is_set()))
    with (staging / "weights.safetensors").open("r+b") as file:  # the disk forgets what was synced
        file.seek(len(data) - manifest.total_bytes + 5)
        file.write(b"rotten")
    receiver.restart()
    assert receiver.fetch(manifest, peer.source)
    assert receiver.tensors(manifest) == tensors and receiver.notes.resumes


@pytest.mark.parametrize("position", range(8))
def test_every_flipped_bit_is_caught(peer: Peer, receiver: Receiver, tmp_path: Path, position: int) -> None:
    """Without TLS, so that nothing but the hashes can notice."""
    manifest, tensors = offered(peer, tmp_path, (MIB,) * 8)
    first = 500 + position * MIB + position * 100_003
    peer.relay.set(Faults(flips=[(), (first, first + 20_011)]))
    receiver.settings = PATIENT
    receiver.restart()
    assert receiver.fetch(manifest, peer.source)
    assert receiver.tensors(manifest) == tensors
    assert peer.relay.counts["flipped"] == 2
    noticed = receiver.notes.counts["mismatched"] + sum(receiver.notes.refusals.values()) + len(receiver.accused)
    assert noticed or receiver.notes.counts["in_bytes"] > manifest.total_bytes or peer.relay.counts["connections"] > 2


def test_flips_under_tls_end_the_connection_and_the_model_arrives(tmp_path: Path, receiver: Receiver) -> None:
    authority = Authority()
    peer = Peer(tmp_path / "a", credentials=authority.issue("spiffe://mergenode/peer/a").server())
    receiver.channel_of = secure_channel(authority.issue("spiffe://mergenode/peer/b").channel())
    try:
        manifest, tensors = offered(peer, tmp_path, (MIB,) * 4)
        peer.relay.set(Faults(flips=[(), (2 * MIB,)]))
        assert receiver.fetch(manifest, peer.source)
        assert receiver.tensors(manifest) == tensors and peer.relay.counts["flipped"] == 1
        assert receiver.notes.counts["mismatched"] == 0 and peer.relay.counts["connections"] == 3
    finally:
        peer.close()


@pytest.mark.parametrize("faults", [Faults(swallow_after=[None, 3 * MIB]), Faults(swallow_after=[100])])
def test_a_half_open_line_is_left_for_another_source(
    peer: Peer, receiver: Receiver, tmp_path: Path, faults: Faults
) -> None:
    manifest, tensors = offered(peer, tmp_path, (MIB,) * 6)
    other = Peer(tmp_path / "b")
    other.shelf.put([tmp_path / "0.safetensors"])
    peer.relay.set(faults)
    try:
        assert receiver.fetch(manifest, peer.source, other.source)
        assert receiver.tensors(manifest) == tensors
        assert peer.relay.counts["swallowed"] == 1 == receiver.notes.counts["stalled"]
        assert other.notes.counts["out_bytes"] > 0
    finally:
        other.close()


def test_a_frozen_line_goes_on_when_it_thaws(peer: Peer, receiver: Receiver, tmp_path: Path) -> None:
    manifest, tensors = offered(peer, tmp_path, (MIB,) * 6)
    peer.relay.freeze()
    stalled = receiver.notes.stalled

    def thaw(name: str) -> None:
        stalled(name)
        peer.relay.thaw()

    receiver.notes.stalled = thaw  # type: ignore[method-assign]  # a tap
    assert receiver.fetch(manifest, peer.source)
    assert receiver.tensors(manifest) == tensors
    assert receiver.notes.counts["stalled"] == 1 == peer.relay.counts["frozen"]


def test_a_busy_node_is_asked_again_when_it_said(peer: Peer, receiver: Receiver, tmp_path: Path) -> None:
    manifest, tensors = offered(peer, tmp_path, (MIB,) * 2)
    peer.service._active["somebody"] = 4
    refused = receiver.notes.refused

    def free(name: str, code: str) -> None:
        refused(name, code)
        peer.service._active.clear()

    receiver.notes.refused = free  # type: ignore[method-assign]  # a tap
    assert receiver.fetch(manifest, peer.source)
    assert receiver.tensors(manifest) == tensors and receiver.notes.refusals == {"BUSY": 1}


def test_nobody_left_to_ask_is_said(peer: Peer, receiver: Receiver, tmp_path: Path) -> None:
    manifest, _ = offered(peer, tmp_path, (10,))
    with pytest.raises(TransientError) as caught:
        receiver.fetch(manifest)
    assert caught.value.reason is TransientReason.VANISHED


def test_another_schema_than_promised_is_refused(peer: Peer, receiver: Receiver, tmp_path: Path) -> None:
    manifest, _ = offered(peer, tmp_path, (10,))
    with pytest.raises(UnusableModel) as caught:
        receiver.fetch(manifest, peer.source, schema=bytes(32))
    assert caught.value.reason is RejectReason.SHAPE_MISMATCH and receiver.shelf.stagings() == []


def test_a_model_beyond_the_limits_is_refused_before_anything_is_allocated(peer: Peer, tmp_path: Path) -> None:
    manifest, _ = offered(peer, tmp_path, (MIB,))
    small = FetchSettings(WireLimits(model_bytes=MIB - 1), QUICK.patience)
    receiver = Receiver(tmp_path / "small", settings=small)
    with pytest.raises(UnusableModel) as caught:
        receiver.fetch(manifest, peer.source)
    assert caught.value.reason is RejectReason.TOO_LARGE and receiver.shelf.stagings() == []
    bounded = Receiver(tmp_path / "bounded", ShelfLimits(total_bytes=MIB, min_free=0))
    with pytest.raises(TransientError) as full:
        bounded.fetch(manifest, peer.source)
    assert full.value.reason is TransientReason.DISK_FULL and bounded.shelf.stagings() == []


def test_blocks_of_a_transfer_that_was_given_up_are_used(peer: Peer, receiver: Receiver, tmp_path: Path) -> None:
    shared = {f"s{number}": noise(number, 2 * MIB) for number in range(4)}
    old = peer.shelf.put([store(tmp_path / "old.safetensors", {**shared, "x": noise(90, MIB)})])
    new = peer.shelf.put([store(tmp_path / "new.safetensors", {**shared, "x": noise(91, MIB)})])
    enough = threading.Event()
    receiver.notes.progress = lambda progress: enough.set() if progress.done > 3 * MIB else None  # type: ignore[method-assign]  # a tap
    order = Order(old.root, lambda: [peer.source], wanted=lambda: not enough.is_set())
    assert not receiver.fetcher.fetch(order) and receiver.shelf.stagings() == [old.root]
    assert receiver.fetch(new, peer.source)
    assert receiver.tensors(new) == tensors_of(tmp_path / "new.safetensors")
    assert receiver.notes.counts["deduplicated"] >= 4 * MIB


def test_an_unknown_root_is_asked_for_elsewhere(peer: Peer, receiver: Receiver, tmp_path: Path) -> None:
    other = Peer(tmp_path / "b")
    try:
        manifest, tensors = offered(other, tmp_path, (MIB,))
        assert receiver.fetch(manifest, peer.source, other.source)
        assert receiver.tensors(manifest) == tensors and receiver.notes.refusals == {"UNKNOWN_ROOT": 1}
    finally:
        other.close()


def test_an_unreachable_node_costs_nothing_but_time(receiver: Receiver, peer: Peer, tmp_path: Path) -> None:
    manifest, tensors = offered(peer, tmp_path, (MIB,))
    peer.relay.set(Faults(refuse=True))
    refused = receiver.notes.refused

    def back(name: str, code: str) -> None:
        refused(name, code)
        if receiver.notes.refusals["UNAVAILABLE"] == 3:
            peer.relay.set(Faults())

    receiver.notes.refused = back  # type: ignore[method-assign]  # a tap
    assert receiver.fetch(manifest, peer.source)
    assert receiver.tensors(manifest) == tensors and peer.relay.counts["refused"] >= 3


def test_roots_that_nobody_knows_leave_no_trace(peer: Peer, receiver: Receiver) -> None:
    asked = threading.Event()
    receiver.notes.refused = lambda name, code: asked.set()  # type: ignore[method-assign]  # a tap
    order = Order(Root(bytes(32)), lambda: [peer.source], wanted=lambda: not asked.is_set())
    assert not receiver.fetcher.fetch(order)
    assert list(receiver.shelf.folder.iterdir()) == []
