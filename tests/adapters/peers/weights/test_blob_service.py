"""The service ``Blobs`` over real sockets: what it sends, whom it refuses, and that it goes on answering."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import numpy as np
import pytest

from mergenode.adapters.peers.port.refusals import refusal_of
from mergenode.adapters.peers.weights.blob_service import BlobService, ServingLimits
from mergenode.adapters.peers.weights.shelf import Shelf
from mergenode.wire.blocks import BLOCK_BYTES, block_id
from mergenode.wire.chunks import BlockAssembly, read_chunk
from mergenode.wire.encoding import Encoding, decode_block
from mergenode.wire.manifest import Manifest
from mergenode.wire.manifest_reading import parse_manifest
from mergenode.wire.v1 import blobs_pb2, objects_pb2
from tests.support.peer_servers import ThreadedServer, insecure_channel, serving
from tests.support.relay import Faults, Relay
from tests.support.stored_models import MIB, noisy_model, store, tensors_of
from tests.support.transfer_notes import TransferNotes

SIZES = (1000, BLOCK_BYTES + 500, 3 * MIB)
Code = objects_pb2.Refusal.Code


class Served:
    """A served shelf with one model, and a channel to it."""

    def __init__(self, folder: Path) -> None:
        self.notes = TransferNotes()
        self.file = noisy_model(folder / "model.safetensors", SIZES)
        self.shelf = Shelf(folder / "shelf", time.monotonic)
        self.manifest = self.shelf.put([self.file])
        limits = ServingLimits(stalled_seconds=20, retry_after_ms=1234)
        caller = self.caller = {"name": ""}
        self.service = BlobService(
            self.shelf,
            self.notes,
            limits,
            caller_of=lambda context: dict(context.invocation_metadata()).get("caller", caller["name"]),
            holders=lambda root: [b"0123456789abcdef"],
        )
        self.server = ThreadedServer(self.service)
        self.channel = insecure_channel(self.server.address, window=1 << 16)

    def fetch(self, caller: str = "node-b", **request: Any) -> Any:
        call = self.channel.unary_stream("/mergenode.v1.Blobs/Fetch", None, None)
        request.setdefault("root", self.manifest.root)
        return call(blobs_pb2.FetchRequest(**request).SerializeToString(), metadata=(("caller", caller),), timeout=60)

    def parts(self, **request: Any) -> Any:
        call = self.channel.unary_stream("/mergenode.v1.Blobs/GetManifest", None, objects_pb2.ManifestPart.FromString)
        request.setdefault("root", self.manifest.root)
        return call(blobs_pb2.GetManifestRequest(**request).SerializeToString(), timeout=60)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.channel.close()
    served.server.stop()
    served.service.close()


def blocks_of(
    frames: Any, manifest: Manifest, base: dict[int, bytes] | None = None
) -> dict[int, tuple[Encoding, bytes]]:
    """Put together and decoded as a receiver does."""
    found: dict[int, tuple[Encoding, bytes]] = {}
    assembly: BlockAssembly | None = None
    for frame in frames:
        chunk = read_chunk(frame)
        place = manifest.place(chunk.block)
        assembly = assembly or BlockAssembly(chunk.block, place.length)
        encoded = assembly.add(chunk)
        if encoded is not None:
            against = (base or {}).get(chunk.block) if encoded.encoding.needs_base else None
            data = decode_block(encoded, place.tensor.spec.dtype, place.length, against)
            found[chunk.block] = (encoded.encoding, bytes(data))
            assembly = None
    return found


def refused(call: Any) -> tuple[grpc.StatusCode, objects_pb2.Refusal | None]:
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    return caught.value.code(), refusal_of(caught.value)  # type: ignore[attr-defined]  # it is a call too


def test_all_blocks_arrive_as_they_are(served: Served) -> None:
    found = blocks_of(served.fetch(), served.manifest)
    assert [block_id(found[place.index][1]) for place in served.manifest.places()] == [
        place.id for place in served.manifest.places()
    ]
    assert {encoding for encoding, _ in found.values()} == {Encoding.RAW}
    assert served.notes.counts["out_bytes"] == sum(SIZES) and served.notes.blocks["out", Encoding.RAW] == 4


def test_the_node_hears_how_far_a_receiver_is(served: Served) -> None:
    list(served.fetch(blocks=[objects_pb2.Range(first=1, count=3)]))
    total = sum(SIZES[1:])
    told = served.notes.sent
    assert [done for done, _, _ in told[:-1]] == [0, BLOCK_BYTES, BLOCK_BYTES + 500, total]
    assert {each[1] for each in told[:-1]} == {total} and [over for *_, over in told] == [False] * 4 + [True]


def test_only_what_is_asked_for_is_sent_in_that_order(served: Served) -> None:
    ranges = [objects_pb2.Range(first=0, count=1), objects_pb2.Range(first=2, count=2)]
    assert list(blocks_of(served.fetch(blocks=ranges), served.manifest)) == [0, 2, 3]


def test_the_manifest_arrives_and_goes_on_from_an_offset(served: Served) -> None:
    data = b"".join(part.data for part in served.parts())
    assert parse_manifest(data, served.manifest.root) == served.manifest
    rest = list(served.parts(offset=100))
    assert b"".join(part.data for part in rest) == data[100:]
    assert {(part.root, part.total_bytes) for part in rest} == {(served.manifest.root, len(data))}


def test_a_model_that_the_receiver_holds_makes_blocks_small(served: Served, tmp_path: Path) -> None:
    values = {name: np.frombuffer(data, "<i2") for name, data in tensors_of(served.file).items()}
    changed = {name: value + (value % 50 == 0).astype("<i2") for name, value in values.items()}
    tuned = served.shelf.put([store(tmp_path / "tuned.safetensors", changed)])
    accept = ["ENCODING_RAW", "ENCODING_ORDERED_SPLIT_ZSTD"]
    request = {"root": tuned.root, "have_base": served.manifest.root, "accept": accept}
    base = {index: data for index, (_, data) in blocks_of(served.fetch(), served.manifest).items()}
    for _ in range(2):  # from the cache the second time
        found = blocks_of(served.fetch(**request), tuned, base)
        assert [block_id(found[place.index][1]) for place in tuned.places()] == [place.id for place in tuned.places()]
        assert {encoding for encoding, _ in found.values()} == {Encoding.ORDERED_SPLIT_ZSTD}
    assert served.notes.wire["out", Encoding.ORDERED_SPLIT_ZSTD] < 0.5 * sum(SIZES)
    nobody_has_it = blocks_of(served.fetch(**{**request, "have_base": bytes(32)}), tuned)
    assert {encoding for encoding, _ in nobody_has_it.values()} == {Encoding.RAW}


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"root": bytes(31)}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"root": b""}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"blocks": [objects_pb2.Range(first=4, count=1)]}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"blocks": [objects_pb2.Range(first=0, count=0)]}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"blocks": [objects_pb2.Range(first=0, count=1 << 62)]}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"blocks": [objects_pb2.Range(first=1, count=1)] * 2}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_requests_that_make_no_sense_are_refused(
    served: Served, request_: dict[str, Any], code: grpc.StatusCode
) -> None:
    assert refused(served.fetch(**request_))[0] is code
    assert len(blocks_of(served.fetch(), served.manifest)) == 4, "it goes on serving"


def test_bytes_that_are_no_request_are_refused(served: Served) -> None:
    for method in ("Fetch", "GetManifest"):
        call = served.channel.unary_stream(f"/mergenode.v1.Blobs/{method}", None, None)
        with pytest.raises(grpc.RpcError):
            list(call(b"\xff" * 100, timeout=60))
    assert len(blocks_of(served.fetch(), served.manifest)) == 4


def test_an_unknown_root_names_who_may_have_it(served: Served) -> None:
    for call in (served.fetch(root=bytes(32)), served.parts(root=bytes(32))):
        code, refusal = refused(call)
        assert code is grpc.StatusCode.NOT_FOUND and refusal is not None
        assert refusal.code == Code.CODE_UNKNOWN_ROOT and refusal.alternatives == (UUID(bytes=b"0123456789abcdef"),)


def test_a_manifest_offset_beyond_its_end_is_refused(served: Served) -> None:
    assert refused(served.parts(offset=1 << 40))[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_one_transfer_per_caller_and_four_in_all(served: Served, tmp_path: Path) -> None:
    other = served.shelf.put([noisy_model(tmp_path / "other.safetensors", (10,), 7)])
    running = [served.fetch(f"node-{number}") for number in range(4)]
    frames = [next(call) for call in running]  # each sends, nobody reads on
    assert all(frames) and served.service.active == 4
    for call in (served.fetch("node-0", root=other.root), served.fetch("node-9")):
        code, refusal = refused(call)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and refusal is not None
        assert (refusal.code, refusal.retry_after) == (Code.CODE_BUSY, 1.234)
        assert refusal.alternatives == (UUID(bytes=b"0123456789abcdef"),)
    assert list(served.parts()), "control goes on while all places are taken by readers that stall"
    for call in running:
        assert list(call)
    assert len(blocks_of(served.fetch("node-9"), served.manifest)) == 4


def test_who_asks_for_a_root_again_has_given_up_the_call_before(served: Served) -> None:
    first = served.fetch("node-0")
    next(first)
    assert len(blocks_of(served.fetch("node-0"), served.manifest)) == 4
    with pytest.raises(grpc.RpcError) as caught:
        list(first)
    assert caught.value.code() is grpc.StatusCode.ABORTED  # type: ignore[attr-defined]  # it is a call too


def test_two_hundred_readers_that_stall_keep_nobody_from_answers(served: Served) -> None:
    calls = [served.fetch(f"node-{number}") for number in range(200)]
    codes = []
    for call in calls:
        try:
            next(call)
        except grpc.RpcError as error:
            codes.append(error.code())  # type: ignore[attr-defined]  # it is a call too
        assert list(served.parts())
    assert codes == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 196
    for call in calls:
        call.cancel()


def test_a_reader_that_takes_nothing_loses_its_place(tmp_path: Path) -> None:
    notes = TransferNotes()
    shelf = Shelf(tmp_path / "shelf", time.monotonic)
    manifest = shelf.put([noisy_model(tmp_path / "m.safetensors", (24 * MIB,))])
    ended, active = threading.Event(), notes.active

    def note(direction: str, change: int) -> None:
        active(direction, change)
        if change < 0:
            ended.set()

    notes.active = note  # type: ignore[method-assign]  # a tap
    service = BlobService(shelf, notes, ServingLimits(stalled_seconds=0.2))
    with serving(service) as server, Relay(("127.0.0.1", server.port), Faults(rate=1e6)) as relay:
        channel = insecure_channel(relay.address, window=1 << 16)
        call = channel.unary_stream("/mergenode.v1.Blobs/Fetch", None, None)
        running = call(blobs_pb2.FetchRequest(root=manifest.root).SerializeToString(), timeout=60)
        next(running)
        relay.freeze()
        assert ended.wait(30) and service.active == 0 and relay.counts["frozen"] == 1
        relay.set(Faults())
        relay.thaw()
        with pytest.raises(grpc.RpcError) as caught:
            list(running)
        assert "nothing was taken" in str(caught.value)
        channel.close()
    service.close()


def test_a_caller_who_goes_away_frees_its_place(served: Served) -> None:
    call = served.fetch("node-0")
    next(call)
    call.cancel()
    for _ in range(1000):
        try:
            found = blocks_of(served.fetch("node-0"), served.manifest)
            break
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]  # it is a call too
    assert len(found) == 4


def test_a_draining_node_finishes_and_takes_no_more(served: Served) -> None:
    running = served.fetch("node-0")
    first = next(running)
    served.service.drain()
    code, refusal = refused(served.fetch("node-1"))
    assert code is grpc.StatusCode.UNAVAILABLE and refusal is not None and refusal.code == Code.CODE_DRAINING
    assert len(blocks_of([first, *running], served.manifest)) == 4


def test_damage_on_disk_is_never_sent(served: Served) -> None:
    whole = served.shelf.whole(served.manifest.root)
    assert whole is not None
    with whole.open("r+b") as file:
        file.seek(-10, 2)
        file.write(b"different!")
    code, refusal = refused(served.fetch())
    assert code is grpc.StatusCode.DATA_LOSS and refusal is not None and refusal.code == Code.CODE_UNKNOWN_ROOT
    assert refused(served.fetch())[0] is grpc.StatusCode.NOT_FOUND
