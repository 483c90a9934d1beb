"""Opening and reading files that somebody else may swap."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mergenode.adapters.checkpoints import regular_file
from mergenode.adapters.checkpoints.regular_file import (
    list_directory,
    open_regular,
    pread_into,
    read_exactly,
    read_small,
    trusted_root,
)
from mergenode.errors import RejectedError, RejectReason, TransientError, TransientReason


def _content(path: Path, root: Path) -> bytes:
    fd = open_regular(path, root=root, shown=path.name)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "root" / "inner"
    place.mkdir(parents=True)
    (place / "file").write_bytes(b"content")
    (tmp_path / "secret").write_bytes(b"secret")
    return tmp_path / "root"


def test_files_and_links_inside_the_root(root: Path) -> None:
    (root / "link").symlink_to("inner/file")
    (root / "chain").symlink_to(root / "link")
    (root / "folder").symlink_to(root / "inner", target_is_directory=True)
    for name in ("inner/file", "link", "chain", "folder/file"):
        assert _content(root / name, root) == b"content"


def test_a_root_that_is_itself_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root, target_is_directory=True)
    assert _content(tmp_path / "alias" / "inner" / "file", tmp_path / "alias") == b"content"


@pytest.mark.parametrize("target", ["../secret", "../nothing", "/dev/zero", "/proc/self/environ"])
def test_links_that_lead_out(root: Path, target: str) -> None:
    (root / "link").symlink_to(target)
    with pytest.raises(RejectedError) as caught:
        open_regular(root / "link", root=root, shown="link")
    assert caught.value.reason is RejectReason.PATH_UNSAFE


def test_a_directory_that_leads_out(root: Path, tmp_path: Path) -> None:
    (root / "up").symlink_to(tmp_path, target_is_directory=True)
    for open_it in (
        lambda: open_regular(root / "up" / "secret", root=root, shown="secret"),
        lambda: list_directory(root / "up", root=root, max_entries=9),
        lambda: open_regular(root / ".." / "secret", root=root, shown="secret"),
    ):
        with pytest.raises(RejectedError) as caught:
            open_it()
        assert caught.value.reason is RejectReason.PATH_UNSAFE


@pytest.mark.parametrize("swapped", ["link", "up/secret"])
def test_a_link_swapped_in_after_the_check_is_not_followed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to(tmp_path, target_is_directory=True)
    # as if both had been what they should be when their targets were looked up
    monkeypatch.setattr(regular_file.os.path, "realpath", lambda path, strict=False: os.fspath(path))
    with pytest.raises(TransientError) as caught:
        open_regular(root / swapped, root=root, shown=swapped)
    assert caught.value.reason is TransientReason.CHANGED_WHILE_READING


def test_things_that_are_no_files(root: Path) -> None:
    os.mkfifo(root / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(root / "socket"))
    for name, kind in (("fifo", "FIFO"), ("socket", "socket"), ("inner", "directory")):
        with pytest.raises(RejectedError, match=kind) as caught:
            open_regular(root / name, root=root, shown=name)
        assert caught.value.reason is RejectReason.NOT_REGULAR_FILE
    listener.close()


def test_missing_files_and_roots_are_transient(root: Path, tmp_path: Path) -> None:
    for path, top in ((root / "nothing", root), (tmp_path / "gone" / "file", tmp_path / "gone")):
        with pytest.raises(TransientError) as caught:
            open_regular(path, root=top, shown="x")
        assert caught.value.reason is TransientReason.VANISHED


def test_a_file_in_place_of_a_directory(root: Path) -> None:
    with pytest.raises(TransientError):
        open_regular(root / "inner" / "file" / "deeper", root=root, shown="x")


def test_reading_past_the_end_means_that_it_shrank(root: Path) -> None:
    fd = open_regular(root / "inner" / "file", root=root, shown="file")
    assert read_exactly(fd, 3, 4, "file") == b"tent"
    buffer = bytearray(8)
    with pytest.raises(TransientError, match="file: ends at byte 7") as caught:
        pread_into(fd, 0, memoryview(buffer), "file")
    assert caught.value.reason is TransientReason.CHANGED_WHILE_READING
    os.close(fd)


def test_read_errors_are_transient(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(fd: int, buffers: list[memoryview], offset: int) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(regular_file.os, "preadv", failing)
    fd = open_regular(root / "inner" / "file", root=root, shown="file")
    with pytest.raises(TransientError, match="Input/output error") as caught:
        read_exactly(fd, 0, 4, "file")
    assert caught.value.reason is TransientReason.READ_FAILED
    os.close(fd)


def test_short_reads_are_continued(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv
    monkeypatch.setattr(regular_file.os, "preadv", lambda fd, buffers, offset: real(fd, [buffers[0][:1]], offset))
    fd = open_regular(root / "inner" / "file", root=root, shown="file")
    assert read_exactly(fd, 0, 7, "file") == b"content"
    os.close(fd)


def test_small_files_have_a_cap(root: Path) -> None:
    def read(cap: int) -> bytes:
        return read_small(
            root / "inner" / "file", root=root, shown="file", max_bytes=cap, too_large=RejectReason.CONFIG_INVALID
        )

    assert read(7) == b"content"
    with pytest.raises(RejectedError, match="7 bytes, at most 6"):
        read(6)


def test_directories_have_a_cap(root: Path) -> None:
    for number in range(5):
        (root / f"{number}").touch()
    assert list_directory(root, root=root, max_entries=6) == ("0", "1", "2", "3", "4", "inner")
    with pytest.raises(RejectedError) as caught:
        list_directory(root, root=root, max_entries=5)
    assert caught.value.reason is RejectReason.TOO_LARGE


def test_the_cache_of_the_hub_is_its_own_root(tmp_path: Path) -> None:
    repository = tmp_path / "models--org--name"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    assert trusted_root(snapshot) == snapshot
    (repository / "blobs").mkdir()
    (repository / "blobs" / "123").write_bytes(b"weights")
    (snapshot / "model.safetensors").symlink_to("../../blobs/123")
    assert trusted_root(snapshot) == repository
    assert trusted_root(snapshot / "model.safetensors") == repository
    assert _content(snapshot / "model.safetensors", trusted_root(snapshot)) == b"weights"
