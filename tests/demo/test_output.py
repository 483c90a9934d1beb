"""The demo removes only what an earlier demo made."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergenode.adapters.store.lock import StateLock
from mergenode.demo.output import MARK, fresh_output
from mergenode.errors import UsageError


def test_new_and_empty_directories_are_taken(tmp_path: Path) -> None:
    assert (fresh_output(tmp_path / "a" / "b") / MARK).is_file()
    (tmp_path / "empty").mkdir()
    assert (fresh_output(tmp_path / "empty") / MARK).is_file()


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    precious = tmp_path / "thesis.tex"
    precious.write_text("years of work")
    with pytest.raises(UsageError, match="not made by the demo") as caught:
        fresh_output(tmp_path)
    assert "--output" in caught.value.hint
    assert precious.read_text() == "years of work"
    with pytest.raises(UsageError, match="is a file"):
        fresh_output(precious)


def test_an_earlier_demo_is_replaced_and_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    ours = fresh_output(tmp_path / "ours")
    (ours / "published" / "v000001").mkdir(parents=True)
    (ours / "published" / "latest").symlink_to("v000001")
    (ours / "link").symlink_to(outside)
    assert fresh_output(ours) == ours
    assert [entry.name for entry in ours.iterdir()] == [MARK]
    assert (outside / "kept").read_text() == "kept"


def test_a_running_node_keeps_its_directory(tmp_path: Path) -> None:
    ours = fresh_output(tmp_path / "ours")
    (ours / "state").mkdir()
    with StateLock(ours / "state", node="demo"), pytest.raises(UsageError, match="still runs there"):
        fresh_output(ours)
    fresh_output(ours)
    assert not (ours / "state").exists()
