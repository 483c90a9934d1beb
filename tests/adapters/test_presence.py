"""There, not there, or not to be told."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mergenode.adapters.presence import is_there
from mergenode.adapters.registries.ingested import IngestedRegistry
from mergenode.adapters.registries.watch import FolderWatch, open_watch
from mergenode.errors import TransientError, TransientReason
from mergenode.types import Candidate


@pytest.fixture
def dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory whose server does not answer any more."""
    share, real = tmp_path / "share", os.stat
    share.mkdir()

    def stat(path: os.PathLike[str] | str | int, *args: object, **options: object) -> os.stat_result:
        if not isinstance(path, int) and os.fspath(path).startswith(str(share)):
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), os.fspath(path))
        return real(path, *args, **options)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(os, "stat", stat)
    return share


def test_yes_and_no(tmp_path: Path) -> None:
    assert is_there(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    for name in ("absent", "loop", "x" * 300, "nul\0"):
        assert not is_there(f"{tmp_path}/{name}")


def test_a_dead_share_is_neither(dead: Path) -> None:
    with pytest.raises(TransientError) as unknown:
        is_there(dead / "a")
    assert unknown.value.reason is TransientReason.REGISTRY_UNREACHABLE and "not connected" in unknown.value.message


def test_what_was_ingested_from_a_dead_share_is_not_gone(dead: Path) -> None:
    registry = IngestedRegistry([Candidate("ingest", "a", "r1", str(dead / "a"))])
    with pytest.raises(TransientError):
        registry.list()


def test_a_node_starts_beside_a_dead_share(dead: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    watch = open_watch(dead, told.append)
    assert isinstance(watch, FolderWatch) or told
    watch.start(lambda: None)
    assert not watch.active
