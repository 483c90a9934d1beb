"""Durable writes: what is there after every possible end, told by the sequence of system calls."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters import durable
from mergenode.errors import TransientError, TransientReason


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(operation, name of what it touched) in order, for the operations that durability rests on."""
    seen: list[tuple[str, str]] = []
    real_fsync, real_replace, real_rename = os.fsync, os.replace, os.rename

    def fsync(fd: int) -> None:
        seen.append(("sync", Path(os.readlink(f"/proc/self/fd/{fd}")).name))
        real_fsync(fd)

    def replace(source: Any, target: Any) -> None:
        seen.append(("rename", Path(target).name))
        real_replace(source, target)

    def rename(source: Any, target: Any) -> None:
        seen.append(("rename", Path(target).name))
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(os, "rename", rename)
    return seen


def test_a_file_is_synced_before_it_gets_its_name_and_the_name_after(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    durable.replace_file(tmp_path / "plan.json", b"one")
    durable.replace_file(tmp_path / "plan.json", b"two")
    once = [("sync", ".plan.json.new"), ("rename", "plan.json"), ("sync", tmp_path.name)]
    assert calls == once * 2
    assert (tmp_path / "plan.json").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_a_failed_replacement_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.json"
    durable.replace_file(path, b"old")

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    opened = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="full"):
        durable.replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert len(os.listdir("/proc/self/fd")) == opened


def test_a_directory_move_syncs_both_parents(tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    (tmp_path / "from" / "made").mkdir(parents=True)
    (tmp_path / "to").mkdir()
    durable.rename_directory(tmp_path / "from" / "made", tmp_path / "to" / "made")
    assert calls == [("rename", "made"), ("sync", "to"), ("sync", "from")]
    calls.clear()
    durable.rename_directory(tmp_path / "to" / "made", tmp_path / "to" / "other")
    assert calls == [("rename", "other"), ("sync", "to")]


def test_a_link_moves_in_one_step(tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    link = tmp_path / "latest"
    durable.point_symlink(link, "v000001")
    assert calls == [("rename", "latest"), ("sync", tmp_path.name)]
    (tmp_path / ".latest.new").symlink_to("left over")
    durable.point_symlink(link, "v000002")
    assert os.readlink(link) == "v000002"
    calls.clear()
    durable.point_symlink(link, "v000002")
    assert calls == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest"]


def test_a_tree_loses_its_name_before_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that looks while files are being removed finds no directory of that name."""
    doomed = tmp_path / "v000001"
    (doomed / "deep").mkdir(parents=True)
    (doomed / "deep" / "file").write_text("x")
    (tmp_path / ".v000001.removing").mkdir()  # left by an earlier kill
    names: list[bool] = []
    real_rmtree: Callable[[Path], None] = durable.shutil.rmtree

    def rmtree(path: Path) -> None:
        names.append(doomed.exists() and path.name != ".v000001.removing")
        real_rmtree(path)

    monkeypatch.setattr(durable.shutil, "rmtree", rmtree)
    durable.remove_tree(doomed)
    assert names == [False, False]
    assert list(tmp_path.iterdir()) == []
    durable.remove_tree(doomed)


def test_a_removal_never_follows_a_link(tmp_path: Path) -> None:
    """A link in place of the tree, or inside it, costs nobody the files it leads to."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(precious)
    durable.remove_tree(tree)
    (tmp_path / "link").symlink_to(precious)
    durable.remove_tree(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    assert (precious / "file").read_text() == "x"


@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=200), offset=st.integers(0, 50), most=st.integers(1, 40))
def test_short_writes_are_continued(data: bytes, offset: int, most: int) -> None:
    fd = os.memfd_create("short")
    real = os.pwrite
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", lambda fd, view, at: real(fd, view[:most], at))
        durable.write_all(fd, data, offset)
    assert os.pread(fd, 1000, offset) == data
    os.close(fd)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_waited_for(code: int) -> None:
    with pytest.raises(TransientError) as caught, durable.disk_errors("/state"):
        raise OSError(code, os.strerror(code), "/state/shard-00001.safetensors")
    assert caught.value.reason is TransientReason.DISK_FULL
    assert "/state/shard-00001.safetensors" in caught.value.message and "Free space" in caught.value.hint


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.EACCES, errno.ENOENT])
def test_other_failures_of_the_disk_are_tried_again(code: int) -> None:
    with pytest.raises(TransientError) as caught, durable.disk_errors("/state"):
        raise OSError(code, os.strerror(code))
    assert caught.value.reason is TransientReason.WRITE_FAILED
    assert caught.value.message == f"/state: {os.strerror(code)}"


def test_what_is_no_failure_of_the_disk_passes() -> None:
    with pytest.raises(KeyError), durable.disk_errors("/state"):
        raise KeyError("a defect")


def test_sizes_count_links_once_and_follow_none(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(bytes(1000))
    os.link(tmp_path / "a" / "one", tmp_path / "a" / "b" / "two")
    (tmp_path / "a" / "b" / "three").write_bytes(bytes(10))
    outside = tmp_path / "outside"
    outside.write_bytes(bytes(5000))
    (tmp_path / "a" / "link").symlink_to(outside)
    length = os.lstat(tmp_path / "a" / "link").st_size
    assert durable.tree_bytes(tmp_path / "a") == 1010 + length
    assert durable.tree_bytes(tmp_path / "nothing") == 0


def test_free_bytes_of_a_place_that_is_not_there_yet(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    found = durable.free_bytes(tmp_path / "state" / "statistics")
    assert 0 < found <= status.f_blocks * status.f_frsize
    assert stat.S_ISDIR(tmp_path.stat().st_mode) and not (tmp_path / "state").exists()
