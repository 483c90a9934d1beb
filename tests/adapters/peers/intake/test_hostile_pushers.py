"""Pushers that lie, stall and flood: nothing of it is kept, memory and disk stay bounded, others are served."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
import zstandard

from mergenode.adapters.durable import tree_bytes
from mergenode.adapters.peers.intake.put_stream import PutTimes
from mergenode.adapters.peers.intake.upload_admission import UploadLimits
from mergenode.adapters.peers.pushing.local_model import LocalModel, describe_model
from mergenode.wire.blocks import BLOCK_BYTES
from mergenode.wire.chunks import CHUNK_BYTES, Chunk, chunks_of, frame_chunk
from mergenode.wire.encoding import Encoded, Encoding
from mergenode.wire.limits import WireLimits
from mergenode.wire.v1.intake_pb2 import BeginReply, BeginRequest, CommitReply, CommitRequest, MissingReply, PutReply
from mergenode.wire.v1.objects_pb2 import ManifestPart
from tests.support.checkpoints import base_tensors, write_single
from tests.support.intake import BOUND_SECONDS, LINEAGE, Intake, open_uploads
from tests.support.real_node import forget_peak, resident_bytes

SERVICE = "/mergenode.v1.Intake/"
MB = 1 << 20


class Raw:
    """Calls the service with whatever bytes."""

    def __init__(self, intake: Intake, pusher: str = "mallory") -> None:
        self.channel = intake.channel()
        self.metadata = (("pusher", pusher),)

    def begin(self, **fields: Any) -> BeginReply:
        call = self.channel.unary_unary(SERVICE + "Begin", BeginRequest.SerializeToString, BeginReply.FromString)
        request: dict[str, Any] = {"lineage": LINEAGE, "name": "x", "root": bytes(32), "manifest_bytes": 100,
                                   "weight_bytes": 100} | fields  # fmt: skip
        return call(BeginRequest(**request), metadata=self.metadata, timeout=BOUND_SECONDS)

    def begin_model(self, model: LocalModel, **fields: Any) -> bytes:
        manifest = model.manifest
        reply = self.begin(
            root=manifest.root, manifest_bytes=len(manifest.packed), weight_bytes=manifest.total_bytes, **fields
        )
        return reply.upload_id

    def missing(self, parts: Iterator[ManifestPart]) -> MissingReply:
        call = self.channel.stream_unary(SERVICE + "Missing", ManifestPart.SerializeToString, MissingReply.FromString)
        return call(parts, metadata=self.metadata, timeout=BOUND_SECONDS)

    def manifest(self, model: LocalModel, upload: bytes) -> MissingReply:
        packed = model.manifest.packed
        part = ManifestPart(root=model.manifest.root, total_bytes=len(packed), upload_id=upload, data=packed)
        return self.missing(iter([part]))

    def put(self, frames: Iterator[bytes]) -> PutReply:
        call = self.channel.stream_unary(SERVICE + "Put", None, PutReply.FromString)
        return call(frames, metadata=self.metadata, timeout=BOUND_SECONDS)

    def commit(self, upload: bytes) -> CommitReply:
        call = self.channel.unary_unary(SERVICE + "Commit", CommitRequest.SerializeToString, CommitReply.FromString)
        return call(CommitRequest(upload_id=upload), metadata=self.metadata, timeout=BOUND_SECONDS)


@pytest.fixture
def raw(intake: Intake) -> Iterator[Raw]:
    raw = Raw(intake)
    yield raw
    raw.channel.close()


@contextmanager
def refused(*codes: grpc.StatusCode, match: str | None = None) -> Iterator[None]:
    with pytest.raises(grpc.RpcError, match=match) as caught:
        yield
    assert caught.value.code() in codes, caught.value


INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "name", ["../x", "/etc", "a/b", "..", ".hidden", "x.tmp", "x.part", "", "a\\b", "a\nb", "a\0b", "x" * 129, " a"]
)
def test_names_that_could_lead_elsewhere_are_refused(raw: Raw, name: str) -> None:
    with refused(INVALID, match="the name"):
        raw.begin(name=name)


@pytest.mark.parametrize(
    "files",
    [
        {"../config.json": b"{}"}, {"modeling.py": b"import os"}, {"pytorch_model.bin": b"x"}, {"a/b.json": b"{}"},
        {"mergenode.commit.json": b"{}"}, {"model.safetensors": b"x"}, {"chat_template.jinja": b"x"},
        {f"{number}.json": b"" for number in range(10_000)},
    ],
    ids=lambda files: next(iter(files)),
)  # fmt: skip
def test_files_that_nobody_needs_are_refused(raw: Raw, files: dict[str, bytes]) -> None:
    with refused(INVALID, match="is not taken"):
        raw.begin(files=files)


def test_a_card_is_dropped_and_too_many_bytes_are_refused(raw: Raw, intake: Intake, tuned: Path) -> None:
    with refused(INVALID, match="more than 65536"):
        raw.begin(files={"config.json": bytes(70_000)})
    with describe_model(tuned) as model:
        upload = raw.begin_model(model, files={"README.md": b"# hello", "config.json": b"{}"})
    folder = intake.uploads._uploads[upload.hex()].folder
    assert {path.name for path in folder.iterdir()} == {"config.json", ".upload.json"}


@pytest.mark.parametrize(
    "fields",
    [
        {"root": b"short"}, {"weight_bytes": 0}, {"manifest_bytes": 0}, {"weight": float("nan")}, {"weight": 0.0},
        {"base": "sha256:x"}, {"profile": {"*": -1.0}}, {"idempotency_key": "x" * 300},
        {"profile": {str(number): 1.0 for number in range(200)}},
    ],
    ids=lambda fields: next(iter(fields)),
)  # fmt: skip
def test_numbers_that_are_none_are_refused(raw: Raw, fields: dict[str, Any]) -> None:
    with refused(INVALID):
        raw.begin(**fields)


def test_one_key_is_one_upload(raw: Raw, tuned: Path, adapter: Path) -> None:
    with describe_model(tuned) as first, describe_model(adapter) as second:
        upload = raw.begin_model(first, idempotency_key="k")
        assert raw.begin_model(first, idempotency_key="k") == upload
        assert raw.begin_model(first, idempotency_key="other") == upload
        with refused(INVALID, match="another model"):
            raw.begin_model(second, idempotency_key="other")


def test_a_manifest_is_taken_only_as_declared(raw: Raw, intake: Intake, tuned: Path) -> None:
    with describe_model(tuned) as model:
        packed, root = model.manifest.packed, model.manifest.root
        upload = raw.begin_model(model)

        def part(data: bytes, offset: int = 0, total: int = len(packed), of: bytes = root) -> ManifestPart:
            return ManifestPart(root=of, offset=offset, total_bytes=total, upload_id=upload, data=data)

        for parts in (
            [part(packed[:-1])],
            [part(packed[:50]), part(packed[60:], 60)],
            [part(packed, total=len(packed) + 1)],
            [part(packed, of=bytes(32))],
            [part(packed + b"x")],
            [part(b"")],
            [part(b"x" * len(packed))],
            [],
        ):
            with refused(INVALID):
                raw.missing(iter(parts))
        with refused(grpc.StatusCode.FAILED_PRECONDITION):
            raw.commit(upload)
        assert raw.manifest(model, upload).blocks == model.manifest.block_count


def test_an_oversized_manifest_is_refused_before_it_travels(state: Path, base: Path) -> None:
    limits = UploadLimits(min_free=0, wire=WireLimits(manifest_bytes=1000, tensors=10))
    with Intake(open_uploads(state, base, limits=limits)) as intake:
        raw = Raw(intake)
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, match="1001 bytes of manifest"):
            raw.begin(manifest_bytes=1001)
        upload = raw.begin(manifest_bytes=1000, root=b"r" * 32).upload_id

        def endless() -> Iterator[ManifestPart]:
            for offset in range(0, 1 << 30, 100):
                yield ManifestPart(root=b"r" * 32, offset=offset, total_bytes=1000, upload_id=upload, data=bytes(100))

        with refused(INVALID):
            raw.missing(endless())
        assert tree_bytes(state / "intake") < 10_000
        raw.channel.close()


def test_declared_bytes_are_held_against_the_manifest(raw: Raw, intake: Intake, tuned: Path) -> None:
    with describe_model(tuned) as model:
        manifest = model.manifest
        upload = raw.begin(root=manifest.root, manifest_bytes=len(manifest.packed), weight_bytes=10).upload_id
        with refused(INVALID, match="10 were declared"):
            raw.manifest(model, upload)
    assert intake.uploads._uploads == {}


def frames_of(index: int, payload: bytes, upload: bytes = b"", encoding: Encoding = Encoding.RAW) -> list[bytes]:
    return [frame_chunk(chunk) for chunk in chunks_of(index, Encoded(encoding, payload), upload)]


def test_garbage_frames_end_the_stream_and_nothing_else(raw: Raw, intake: Intake, tuned: Path, adapter: Path) -> None:
    with describe_model(tuned) as model:
        upload = raw.begin_model(model)
        blocks = raw.manifest(model, upload).blocks
        place = model.manifest.place(0)
        for frames in (
            [b"\xff" * 100],
            [b""],
            [frame_chunk(Chunk(0, 0, 1, True, b"x"))],
            [frame_chunk(Chunk(0, 0, 1, True, b"x", b"somebody else's"[:16]))],
            frames_of(blocks, b"x", upload),
            frames_of(1 << 40, b"x", upload),
            frames_of(0, bytes(place.length + 1), upload),
            [frame_chunk(Chunk(0, 5, 1, True, b"x", upload))],
            [frame_chunk(Chunk(0, 0, 9, True, b"x", upload))],
            [frame_chunk(Chunk(0, 0, 1, False, b"x", upload)), frame_chunk(Chunk(1, 0, 1, True, b"x"))],
            [frame_chunk(Chunk(0, 0, 1, False, b"x", upload))],
            frames_of(0, bytes(place.length - 1), upload, Encoding.XOR_SPLIT_ZSTD),
        ):
            with refused(INVALID, grpc.StatusCode.NOT_FOUND):
                raw.put(iter(frames))
        assert raw.manifest(model, upload).wanted == raw.manifest(model, upload).wanted
    assert intake.push(adapter).outcome == "accepted", "others are served"


def test_wrong_blocks_never_count_and_end_the_stream(raw: Raw, intake: Intake, tuned: Path) -> None:
    with describe_model(tuned) as model:
        upload = raw.begin_model(model)
        before = raw.manifest(model, upload)
        place = model.manifest.place(0)
        wrong = bytes(place.length)
        assert raw.put(iter(frames_of(0, wrong, upload))).wanted == before.wanted, "once may be the line"
        with refused(INVALID, match="came twice"):
            raw.put(iter([*frames_of(0, wrong, upload), *frames_of(0, wrong)]))
        with refused(grpc.StatusCode.FAILED_PRECONDITION, match="are missing"):
            raw.commit(upload)
    report = intake.push(tuned, pusher="mallory")
    assert report.outcome == "accepted"


def test_an_endless_stream_of_what_is_there_already_ends(
    raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mergenode.adapters.peers.intake.upload_blocks._WASTED_BYTES", MB)
    path = write_single(tmp_path / "near", base_tensors() | {"model.norm.weight": torch.ones(32)})
    with describe_model(path) as model:
        upload = raw.begin_model(model)
        raw.manifest(model, upload)
        sent = 0

        def endless() -> Iterator[bytes]:
            nonlocal sent
            index = next(place.index for place in model.manifest.places() if place.length > 1000)
            block = model.read(model.manifest.place(index))
            first = upload
            while True:
                yield from frames_of(index, block, first)
                first, sent = b"", sent + len(block)

        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, match="not wanted"):
            raw.put(endless())
        assert sent < 16 * MB, "what the line holds comes on top"


def test_stalled_streams_hold_little_and_delay_nobody(state: Path, base: Path, tuned: Path, adapter: Path) -> None:
    """Eight streams that stop inside a block: others push meanwhile, and the stalled ones are ended."""
    with Intake(open_uploads(state, base), times=PutTimes(idle=2.0), most_streams=16) as intake:
        ends: list[grpc.StatusCode] = []
        release, stalled = threading.Event(), threading.Semaphore(0)

        def stall(number: int) -> None:
            raw = Raw(intake, f"mallory-{number}")
            with describe_model(tuned) as model:
                upload = raw.begin_model(model)
                raw.manifest(model, upload)

                def frames() -> Iterator[bytes]:
                    yield frame_chunk(Chunk(0, 0, 1, False, b"x", upload))
                    stalled.release()
                    release.wait(BOUND_SECONDS)

                try:
                    raw.put(frames())
                except grpc.RpcError as error:
                    ends.append(error.code())
            release.wait(BOUND_SECONDS)
            raw.channel.close()

        threads = [threading.Thread(target=stall, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert stalled.acquire(timeout=BOUND_SECONDS)
        assert intake.push(adapter).outcome == "accepted"
        release_after = threading.Timer(BOUND_SECONDS, release.set)
        release_after.start()
        while len(ends) < len(threads):
            assert not release.wait(0.05), "a stalled stream was never ended"
        release_after.cancel()
        release.set()
        for thread in threads:
            thread.join(BOUND_SECONDS)
        assert set(ends) == {grpc.StatusCode.DEADLINE_EXCEEDED}


def test_more_streams_than_there_may_be_are_asked_to_wait(state: Path, base: Path, tuned: Path, adapter: Path) -> None:
    with Intake(open_uploads(state, base), most_streams=1) as intake, describe_model(tuned) as model:
        raw = Raw(intake)
        upload = raw.begin_model(model)
        raw.manifest(model, upload)
        holding, release = threading.Event(), threading.Event()

        def frames() -> Iterator[bytes]:
            yield frame_chunk(Chunk(0, 0, 1, False, b"x", upload))
            holding.set()
            release.wait(BOUND_SECONDS)

        call = raw.channel.stream_unary(SERVICE + "Put", None, PutReply.FromString)
        held = call.future(frames(), metadata=raw.metadata)
        assert holding.wait(BOUND_SECONDS)
        while not intake.service._work._streams["mallory"]:
            assert not release.wait(0.01)
        told: list[str] = []

        def pause(_seconds: float) -> None:
            held.cancel()
            release.set()
            threading.Event().wait(0.05)

        assert intake.push(adapter, tell=told.append, pause=pause).outcome == "accepted"
        assert "as many streams" in told[0]
        raw.channel.close()


def test_one_pusher_has_few_uploads_at_once(raw: Raw, intake: Intake) -> None:
    for number in range(4):
        assert raw.begin(root=bytes([number] * 32)).upload_id
    reply = raw.begin(root=b"5" * 32)
    assert reply.upload_id == b"" and reply.retry_after_ms > 0
    assert Raw(intake, "other").begin(root=b"5" * 32).upload_id


def test_uploads_of_others_cannot_be_touched(raw: Raw, intake: Intake, tuned: Path) -> None:
    with describe_model(tuned) as model:
        upload = raw.begin_model(model)
        raw.manifest(model, upload)
        other = Raw(intake, "other")
        for attempt in (
            lambda: other.commit(upload),
            lambda: other.manifest(model, upload),
            lambda: other.put(iter(frames_of(0, b"x", upload))),
        ):
            with refused(grpc.StatusCode.NOT_FOUND):
                attempt()
        other.channel.close()


def test_the_newest_stream_of_an_upload_lives(raw: Raw, intake: Intake, tuned: Path) -> None:
    with describe_model(tuned) as model:
        upload = raw.begin_model(model)
        raw.manifest(model, upload)
        holding, release = threading.Event(), threading.Event()

        def frames() -> Iterator[bytes]:
            yield frame_chunk(Chunk(0, 0, 1, False, b"x", upload))
            holding.set()
            release.wait(BOUND_SECONDS)

        held = raw.channel.stream_unary(SERVICE + "Put", None, PutReply.FromString).future(
            frames(), metadata=raw.metadata
        )
        assert holding.wait(BOUND_SECONDS)
        while upload not in intake.service._putting:
            assert not release.wait(0.01)
        assert intake.push(tuned, pusher="mallory").outcome == "accepted"
        assert held.code() is grpc.StatusCode.ABORTED
        release.set()


def test_memory_stays_bounded(raw: Raw, tuned: Path) -> None:
    """A compressed block that claims to be larger, and chunks without an end to their block."""
    with describe_model(tuned) as model:
        upload = raw.begin_model(model)
        raw.manifest(model, upload)
        forget_peak()
        before = resident_bytes()

        def endless() -> Iterator[bytes]:
            first = upload
            for number in range(1000):
                at = min(number * CHUNK_BYTES, BLOCK_BYTES - 1)
                yield frame_chunk(Chunk(0, at, 1, False, bytes(CHUNK_BYTES), first))
                first = b""

        with refused(INVALID):
            raw.put(endless())
        bomb = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(256 * MB))
        raw.put(iter(frames_of(0, bomb[:1000], upload, Encoding.SPLIT_ZSTD)))
        assert resident_bytes("VmHWM") - before < 300 * MB
