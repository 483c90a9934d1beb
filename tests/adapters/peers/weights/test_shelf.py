"""The shelf: what is put stays, what is damaged is found, what nobody needs goes, whatever happened before."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mergenode.adapters.peers.weights.shelf import LEASE_SECONDS, Shelf, ShelfLimits
from mergenode.errors import RejectedError, RejectReason, TransientError, TransientReason
from mergenode.wire.blocks import BLOCK_BYTES, Root, block_id
from mergenode.wire.manifest import Manifest
from tests.support.clock import FakeClock
from tests.support.stored_models import noise, noisy_model, store, tensors_of
from tests.support.transfer_notes import TransferNotes

SIZES = (1000, BLOCK_BYTES + 500, 24)


class Place:
    """A shelf that can be closed and opened again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.notes = folder, FakeClock(), TransferNotes()
        self.shelf = self.opened()

    def opened(self, limits: ShelfLimits | None = None) -> Shelf:
        self.shelf = Shelf(self.folder, self.clock.monotonic, limits or ShelfLimits(min_free=0), self.notes)
        return self.shelf


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "shelf")


def read_all(shelf: Shelf, manifest: Manifest) -> bytes:
    reader = shelf.open(manifest.root)
    assert reader is not None
    buffer = memoryview(bytearray(BLOCK_BYTES))
    with reader:
        return b"".join(bytes(reader.read(index, buffer)) for index in range(manifest.block_count))


def flat_bytes(path: Path) -> bytes:
    tensors = tensors_of(path)
    return b"".join(tensors[name] for name in sorted(tensors))


def flip(path: Path, offset: int) -> None:
    """One bit, without a trace in the modification time."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        old = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([old ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_what_is_put_is_read_although_the_file_is_removed(place: Place, tmp_path: Path) -> None:
    file = noisy_model(tmp_path / "model.safetensors", SIZES)
    expected, inode = flat_bytes(file), file.stat().st_ino
    manifest = place.shelf.put([file])
    file.unlink()
    assert read_all(place.shelf, manifest) == expected
    whole = place.shelf.whole(manifest.root)
    assert whole is not None and whole.stat().st_ino == inode, "it should be linked, not copied"
    assert place.notes.shelf_size == (sum(SIZES), 4)


def test_a_file_that_cannot_be_linked_is_copied(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: object, target: object) -> None:
        raise OSError(errno.EXDEV, "other file system")

    file = noisy_model(tmp_path / "model.safetensors", SIZES)
    monkeypatch.setattr(os, "link", link)
    manifest = place.shelf.put([file])
    assert read_all(place.shelf, manifest) == flat_bytes(file)


def test_shards_are_one_entry_and_the_same_as_one_file(place: Place, tmp_path: Path) -> None:
    first, second = noise(1, 500), noise(2, 700)
    shards = [store(tmp_path / "1.safetensors", {"a": first}), store(tmp_path / "2.safetensors", {"b": second})]
    manifest = place.shelf.put(shards)
    assert place.shelf.whole(manifest.root) is None
    assert read_all(place.shelf, manifest) == first.tobytes() + second.tobytes()
    again = place.shelf.put([store(tmp_path / "whole.safetensors", {"b": second, "a": first})])
    assert again.root == manifest.root and list(place.shelf.manifests()) == [manifest.root]
    assert place.shelf.whole(manifest.root) is not None
    assert read_all(place.shelf, manifest) == first.tobytes() + second.tobytes()


def test_a_tensor_in_two_files_is_refused_and_nothing_stays(place: Place, tmp_path: Path) -> None:
    files = [store(tmp_path / name, {"a": noise(1, 10)}) for name in ("1.safetensors", "2.safetensors")]
    with pytest.raises(ValueError, match="'a'"):
        place.shelf.put(files)
    with pytest.raises(RejectedError):
        broken = tmp_path / "broken.safetensors"
        broken.write_bytes(b"no header")
        place.shelf.put([broken])
    assert os.listdir(place.folder) == []


def test_a_missing_file_changes_nothing(place: Place, tmp_path: Path) -> None:
    with pytest.raises(TransientError):
        place.shelf.put([tmp_path / "none.safetensors"])
    assert os.listdir(place.folder) == []


def test_a_restart_finds_entries_keeps_transfers_and_removes_the_rest(place: Place, tmp_path: Path) -> None:
    file = noisy_model(tmp_path / "model.safetensors", SIZES)
    manifest, other = place.shelf.put([file]), Root(bytes(31) + b"\1")
    place.shelf.staging(other).mkdir()
    for name in (".7.putting", f".{manifest.root.hex()}.removing", ".new"):
        (place.folder / name).mkdir()
    shelf = place.opened()
    assert list(shelf.manifests()) == [manifest.root] and shelf.stagings() == [other]
    assert sorted(os.listdir(place.folder)) == sorted([manifest.root.hex(), shelf.staging(other).name])
    assert read_all(shelf, manifest) == flat_bytes(file)
    shelf.drop_staging(other)
    assert shelf.stagings() == []


def test_a_damaged_manifest_is_found_at_the_start(place: Place, tmp_path: Path) -> None:
    manifest = place.shelf.put([noisy_model(tmp_path / "model.safetensors", SIZES)])
    flip(place.folder / manifest.root.hex() / "manifest", 30)
    assert place.opened().manifests() == {}
    assert [root for root, _ in place.notes.faults] == [manifest.root]
    assert os.listdir(place.folder) == []


def test_a_damaged_block_is_found_when_it_is_read_after_a_restart(place: Place, tmp_path: Path) -> None:
    manifest = place.shelf.put([noisy_model(tmp_path / "model.safetensors", SIZES)])
    shelf = place.opened()
    whole = shelf.whole(manifest.root)
    assert whole is not None
    flip(whole, whole.stat().st_size - 1)
    reader = shelf.open(manifest.root)
    assert reader is not None
    with reader:
        buffer = memoryview(bytearray(BLOCK_BYTES))
        assert block_id(reader.read(0, buffer)) == manifest.place(0).id
        with pytest.raises(RejectedError) as caught:
            reader.read(manifest.block_count - 1, buffer)
    assert caught.value.reason is RejectReason.DIGEST_MISMATCH
    assert shelf.open(manifest.root) is None and shelf.manifests() == {}
    assert [root for root, _ in place.notes.faults] == [manifest.root]


def test_damage_behind_the_back_is_found_when_a_caller_asks_twice(place: Place, tmp_path: Path) -> None:
    """A block that this process hashed is not hashed for every caller, unless something seems wrong."""
    manifest = place.shelf.put([noisy_model(tmp_path / "model.safetensors", SIZES)])
    whole = place.shelf.whole(manifest.root)
    assert whole is not None
    flip(whole, whole.stat().st_size - 1)
    last, buffer = manifest.block_count - 1, memoryview(bytearray(BLOCK_BYTES))
    reader = place.shelf.open(manifest.root)
    assert reader is not None
    with reader:
        assert block_id(reader.read(last, buffer, "node-b")) != manifest.place(last).id
        with pytest.raises(RejectedError):
            reader.read(last, buffer, "node-b")
    assert place.shelf.manifests() == {}


def test_a_file_that_was_written_to_is_hashed_again(place: Place, tmp_path: Path) -> None:
    file = noisy_model(tmp_path / "model.safetensors", SIZES)
    manifest = place.shelf.put([file])
    with file.open("r+b") as same:
        same.seek(-1, os.SEEK_END)
        same.write(b"\0")
    os.utime(file, ns=(1, 1))
    reader = place.shelf.open(manifest.root)
    assert reader is not None
    with reader, pytest.raises(RejectedError):
        for index in range(manifest.block_count):
            reader.read(index, memoryview(bytearray(BLOCK_BYTES)))


def test_an_entry_without_its_weights_is_no_entry(place: Place, tmp_path: Path) -> None:
    manifest = place.shelf.put([noisy_model(tmp_path / "model.safetensors", SIZES)])
    whole = place.shelf.whole(manifest.root)
    assert whole is not None
    whole.write_bytes(b"")
    assert place.shelf.open(manifest.root) is None and place.shelf.manifests() == {}


def test_leases_hold_what_retention_would_remove(place: Place, tmp_path: Path) -> None:
    manifests = [place.shelf.put([noisy_model(tmp_path / f"{seed}.safetensors", (100,), seed)]) for seed in range(3)]
    place.clock.advance(LEASE_SECONDS)
    reader = place.shelf.open(manifests[1].root)
    assert reader is not None
    with reader:
        assert place.shelf.retain([manifests[0].root]) == 100
        assert set(place.shelf.manifests()) == {manifests[0].root, manifests[1].root}
        place.clock.advance(LEASE_SECONDS - 1)
        reader.read(0, memoryview(bytearray(100)))
        place.clock.advance(LEASE_SECONDS - 1)
        assert place.shelf.retain([manifests[0].root]) == 0
        place.clock.advance(2)
        assert place.shelf.retain([manifests[0].root]) == 100
        assert block_id(reader.read(0, memoryview(bytearray(100)))) == manifests[1].place(0).id, "it is open"
    assert place.notes.counts["removed"] == 200


def test_bounds_are_checked_before_anything_is_allocated(place: Place, tmp_path: Path) -> None:
    place.shelf.put([noisy_model(tmp_path / "model.safetensors", (1000,))])
    shelf = place.opened(ShelfLimits(total_bytes=3000, min_free=0))
    shelf.check_room(2000)
    with pytest.raises(TransientError) as caught:
        shelf.check_room(2001)
    assert caught.value.reason is TransientReason.DISK_FULL
    with pytest.raises(TransientError):
        place.opened(ShelfLimits(min_free=1 << 60)).check_room(1)
