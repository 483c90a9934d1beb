"""Sources that lie, stall and send garbage or gigabytes: bounded memory and disk, and the model comes from another."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mergenode.adapters.peers.weights.blob_service import BlobService
from mergenode.adapters.peers.weights.fetching import Fetcher, FetchSettings, Order
from mergenode.adapters.peers.weights.shelf import Shelf, ShelfLimits
from mergenode.adapters.peers.weights.sources import Patience, Source
from mergenode.errors import TransientError
from mergenode.types import DType, TensorSpec
from mergenode.wire.blocks import BLOCK_BYTES
from mergenode.wire.chunks import CHUNK_BYTES, Chunk, frame_chunk
from mergenode.wire.encoding import Encoding
from mergenode.wire.manifest import Manifest, TensorEntry, manifest_of
from mergenode.wire.v1 import blobs_pb2, objects_pb2
from tests.support.hostile_blobs import Frames, HostileBlobs, Parts, honest_parts, wrong_blocks
from tests.support.peer_servers import insecure_channel, serving
from tests.support.stored_models import MIB, noisy_model, tensors_of
from tests.support.transfer_notes import TransferNotes

ROOT = Path(__file__).parents[3]
QUICK = FetchSettings(patience=Patience(idle_seconds=0.5, first_pause=0.01, longest_pause=0.02))
SIZES = (MIB, BLOCK_BYTES + MIB)


def chunk(block: int, offset: int, data: bytes, last: bool = False, encoding: int = Encoding.RAW) -> bytes:
    return frame_chunk(Chunk(block, offset, encoding, last, data))


def frames(*made: bytes | None) -> Frames:
    return lambda request: iter(made)


def endless(frame: bytes) -> Frames:
    return lambda request: itertools.repeat(frame)


PIECE = bytes(CHUNK_BYTES)
FRAMES: dict[str, Frames] = {
    "no frame at all": frames(),
    "silence": frames(None),
    "garbage": frames(b"\xff" * 1000),
    "an empty frame": frames(b""),
    "an endless stream of garbage": endless(b"\xff" * 1000),
    "an endless stream of the first chunk": endless(chunk(0, 0, PIECE[:10])),
    "an endless stream of another block": endless(chunk(99, 0, PIECE)),
    "empty chunks": endless(chunk(0, 0, b"")),
    "a chunk that is too long": frames(chunk(1, 0, bytes(CHUNK_BYTES + 1))),
    "a message beyond the limit": frames(chunk(1, 0, bytes(5 * MIB))),
    "a block that ends early": frames(chunk(0, 0, b"ab", last=True)),
    "a block that does not end": frames(chunk(0, 0, PIECE)),
    "a block that goes on": frames(chunk(0, 0, PIECE[:10]), chunk(0, 10, PIECE)),
    "pieces out of order": frames(chunk(1, 0, PIECE), chunk(1, 5, PIECE)),
    "two blocks at once": frames(chunk(1, 0, PIECE), chunk(0, 0, PIECE, last=True)),
    "an unknown encoding": frames(chunk(0, 0, b"xy", last=True, encoding=77)),
    "no encoding": frames(chunk(0, 0, b"xy", last=True, encoding=0)),
    "a difference without a base": frames(chunk(0, 0, b"xy", last=True, encoding=Encoding.ORDERED_SPLIT_ZSTD)),
    "no zstd frame": frames(chunk(0, 0, b"xy", last=True, encoding=Encoding.SPLIT_ZSTD)),
    "a change of encoding": frames(
        chunk(1, 0, PIECE, encoding=Encoding.SPLIT_ZSTD), chunk(1, CHUNK_BYTES, PIECE, encoding=Encoding.RAW)
    ),
}


def part(manifest: Manifest, **fields: object) -> objects_pb2.ManifestPart:
    made = {"root": manifest.root, "offset": 0, "total_bytes": len(manifest.packed), "data": manifest.packed, **fields}
    return objects_pb2.ManifestPart(**made)  # type: ignore[arg-type]  # what a test says


PARTS: dict[str, Callable[[Manifest], Iterator[objects_pb2.ManifestPart | None]]] = {
    "none": lambda manifest: iter([]),
    "silence": lambda manifest: iter([None]),
    "of another root": lambda manifest: iter([part(manifest, root=bytes(32))]),
    "of other bytes": lambda manifest: iter([part(manifest, data=bytes(len(manifest.packed)))]),
    "a huge size": lambda manifest: iter([part(manifest, total_bytes=1 << 62)]),
    "just above the limit": lambda manifest: iter([part(manifest, total_bytes=(64 << 20) + 1)]),
    "more than it said": lambda manifest: iter([part(manifest, total_bytes=10)]),
    "less than it said": lambda manifest: iter([part(manifest, total_bytes=1 << 20)]),
    "a gap": lambda manifest: iter([part(manifest, offset=7)]),
    "empty parts": lambda manifest: itertools.repeat(part(manifest, data=b"")),
    "another size later": lambda manifest: iter(
        [part(manifest, data=manifest.packed[:9]), part(manifest, offset=9, total_bytes=5, data=manifest.packed[9:])]
    ),
}


class Honest:
    def __init__(self, folder: Path) -> None:
        self.shelf, self.notes = Shelf(folder / "honest", time.monotonic), TransferNotes()
        self.file = noisy_model(folder / "model.safetensors", SIZES)
        self.manifest = self.shelf.put([self.file])
        self.service = BlobService(self.shelf, self.notes)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    return Honest(tmp_path_factory.mktemp("honest"))


def fetched_beside(honest: Honest, liar: HostileBlobs, folder: Path) -> tuple[Fetcher, TransferNotes, list[str]]:
    """Ask the liar first, then the honest node; the model is the right one."""
    notes, accused = TransferNotes(), []
    shelf = Shelf(folder / "shelf", time.monotonic, ShelfLimits(min_free=0), notes)
    fetcher = Fetcher(shelf, insecure_channel, notes, lambda source, code, message: accused.append(source.name), QUICK)
    with serving(liar) as bad, serving(honest.service) as good:
        sources = [Source("liar", bad.address), Source("honest", good.address)]
        assert fetcher.fetch(Order(honest.manifest.root, lambda: sources))
    whole = shelf.whole(honest.manifest.root)
    assert whole is not None and tensors_of(whole) == tensors_of(honest.file)
    assert "honest" not in accused and shelf.stagings() == []
    return fetcher, notes, accused


@pytest.mark.parametrize("name", FRAMES)
def test_blocks_come_from_the_other_source(honest: Honest, tmp_path: Path, name: str) -> None:
    liar = HostileBlobs(honest_parts(honest.manifest), FRAMES[name])
    fetched_beside(honest, liar, tmp_path)
    assert liar.calls["GetManifest"] == 1 and 1 <= liar.calls["Fetch"] <= 3


@pytest.mark.parametrize("name", PARTS)
def test_the_manifest_comes_from_the_other_source(honest: Honest, tmp_path: Path, name: str) -> None:
    parts: Parts = lambda request: PARTS[name](honest.manifest)  # noqa: E731  # its name is what it is
    liar = HostileBlobs(parts, wrong_blocks(honest.manifest))
    fetched_beside(honest, liar, tmp_path)
    assert 1 <= liar.calls["GetManifest"] <= 3


def test_wrong_blocks_are_asked_for_once_more_then_the_source_is_accused(honest: Honest, tmp_path: Path) -> None:
    liar = HostileBlobs(honest_parts(honest.manifest), wrong_blocks(honest.manifest))
    fetcher, notes, accused = fetched_beside(honest, liar, tmp_path)
    assert accused == ["liar"] and liar.calls["Fetch"] == 2
    assert notes.counts["mismatched"] == honest.manifest.block_count + 1
    assert fetcher.book.choose(honest.manifest.root, [Source("liar", "")])[0] is None, "it stays banned for that root"
    assert fetcher.book.choose(honest.manifest.root, [Source("honest", "")])[0] is not None


def test_nobody_but_liars_ends_and_leaves_no_model(honest: Honest, tmp_path: Path) -> None:
    liars = [HostileBlobs(honest_parts(honest.manifest), wrong_blocks(honest.manifest)) for _ in range(2)]
    shelf = Shelf(tmp_path / "shelf", time.monotonic, ShelfLimits(min_free=0))
    with serving(liars[0]) as first, serving(liars[1]) as second:
        sources = [Source("first", first.address), Source("second", second.address)]
        with pytest.raises(TransientError):
            Fetcher(shelf, insecure_channel, settings=QUICK).fetch(Order(honest.manifest.root, lambda: sources))
    assert shelf.manifests() == {} and shelf.whole(honest.manifest.root) is None


def lying_manifest(nbytes: int) -> Manifest:
    """A model that is far larger than anything that comes."""
    specs = [TensorSpec(f"t{number}", DType.U8, (nbytes // 4,)) for number in range(4)]
    count = -(-(nbytes // 4) // BLOCK_BYTES)
    return manifest_of([TensorEntry(spec, os.urandom(32) * count) for spec in specs])


@pytest.mark.parametrize("what", ["endless", "oversized manifest", "huge model", "wrong blocks"])
def test_memory_and_disk_of_a_receiver_stay_bounded(tmp_path: Path, honest: Honest, what: str) -> None:
    """The receiver is a process of its own, so that its peak memory is its own."""
    manifest = lying_manifest(1 << 40 if what == "huge model" else 1 << 28)
    total = {"oversized manifest": 1 << 30}.get(what, len(manifest.packed))

    def parts(request: blobs_pb2.GetManifestRequest) -> Iterator[objects_pb2.ManifestPart]:
        data = manifest.packed
        for offset in range(0, total, CHUNK_BYTES):
            piece = data[offset : offset + CHUNK_BYTES] if what != "oversized manifest" else bytes(CHUNK_BYTES)
            yield objects_pb2.ManifestPart(root=request.root, offset=offset, total_bytes=total, data=piece)

    liar = HostileBlobs(parts, endless(chunk(0, 0, PIECE)) if what == "endless" else wrong_blocks(manifest))
    environment = {**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with serving(liar) as server:
        command = [sys.executable, "-m", "tests.support.fetching_process", str(tmp_path / "shelf"), manifest.root.hex()]
        done = subprocess.run(
            [*command, server.address], capture_output=True, text=True, env=environment, timeout=120, check=True
        )
    ended = json.loads(done.stdout.splitlines()[-1])
    assert ended["how"] in ("TransientError", "UnusableModel"), ended
    assert ended["peak"] - ended["begun"] < 100, ended
    assert list((tmp_path / "shelf").glob("[0-9a-f]*/weights*")) == [], "nothing is visible"
    if what != "wrong blocks":
        assert liar.sent < 64 * MIB
