"""A file is watched by its content, however it is replaced."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from mergenode.adapters.watched_file import WatchedFile


def test_it_is_due_at_first_then_when_asked(tmp_path: Path) -> None:
    file = WatchedFile(tmp_path / "node.yaml")
    assert file.take() and not file.take()
    file.ask()
    assert file.take() and not file.take()


def test_content_counts_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text("a: 1")
    file = WatchedFile(path)
    file.take()
    os.utime(path, (1, 1))
    path.rename(tmp_path / "aside")
    path.write_text("a: 1")
    assert not file.look() and not file.take()
    before = path.stat()
    path.write_text("a: 2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.look() and file.take() and not file.look()


def test_a_swapped_link_as_kubernetes_swaps_it(tmp_path: Path) -> None:
    for name, text in (("..1", "a: 1"), ("..2", "a: 2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "node.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "node.yaml").symlink_to("..data/node.yaml")
    file = WatchedFile(tmp_path / "node.yaml")
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert file.look()


def test_gone_and_back_are_changes_each_told_once(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text("a: 1")
    file = WatchedFile(path)
    path.unlink()
    assert file.look() and not file.look()
    path.write_text("a: 1")
    assert file.look() and not file.look()


def test_watching_pokes_for_news(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text("a: 1")
    file, poked = WatchedFile(path, seconds=0.01), threading.Event()
    with file.watching(poked.set):
        path.write_text("a: 2")
        assert poked.wait(60)
    assert file.take()
