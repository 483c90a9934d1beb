"""``verify`` finds what changed, and only that."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mergenode.adapters.clock import SystemClock
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.registries.requests import submit_request
from mergenode.adapters.store.change_requests import FolderChangeRequests
from mergenode.adapters.store.sqlite_ledger import open_reader
from mergenode.bootstrap.verification import Verification, verify
from mergenode.errors import FatalError
from mergenode.ledger.changes import Change
from mergenode.settings import load_settings
from tests.support.checkpoints import lora_tensors, write_adapter
from tests.support.real_node import RealNode


@pytest.fixture
def node(tmp_path: Path) -> RealNode:
    node = RealNode(tmp_path)
    node.put("a", 1)
    write_adapter(node.inbox / "b", lora_tensors())
    node.put("c", 3)
    node.run_once()
    return node


def check(node: RealNode, *, replay: bool = False) -> Verification:
    return verify(load_settings(node.config), FanOut([]), replay=replay)


def flip(path: Path, offset: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("replay", [False, True])
def test_all_is_well(node: RealNode, replay: bool) -> None:
    found = check(node, replay=replay)
    assert found.problems == []
    assert len(found.checked) == 5 + replay
    assert not (node.state / ".replay").exists()


def test_a_changed_bit_in_a_version(node: RealNode) -> None:
    flip(node.published / "v000002/model.safetensors")
    (problem,) = check(node).problems
    assert "v000002" in problem


def test_a_changed_manifest(node: RealNode) -> None:
    flip(node.published / "v000003/mergenode.json", 40)
    assert any("v000003" in problem for problem in check(node).problems)


def test_a_version_that_is_gone(node: RealNode) -> None:
    (node.published / "v000001").rename(node.root / "gone")
    assert any("v000001" in problem for problem in check(node).problems)


def test_a_changed_bit_in_the_statistics(node: RealNode) -> None:
    flip(next((node.state / "statistics").glob("*/*.safetensors")))
    assert any("g00000003" in problem or "generation 3" in problem for problem in check(node).problems)


def test_a_changed_fact(node: RealNode) -> None:
    with sqlite3.connect(node.state / "ledger.sqlite") as ledger:
        ledger.execute("DROP TRIGGER IF EXISTS facts_are_never_changed")
        for (name,) in ledger.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            ledger.execute(f'DROP TRIGGER "{name}"')
        ledger.execute(
            "UPDATE facts SET body = replace(body, '\"weight\":1.0', '\"weight\":2.0') WHERE kind = 'folded'"
        )
    ledger.close()
    assert any("hash" in problem for problem in check(node).problems)


def test_replay_names_a_contribution_that_is_gone(node: RealNode) -> None:
    (node.inbox / "b").rename(node.root / "elsewhere")
    (problem,) = check(node, replay=True).problems
    assert "b is no longer at" in problem and "generation 2" in problem
    assert check(node).problems == []


def leave(node: RealNode, name: str) -> None:
    with closing(open_reader(node.state / "ledger.sqlite")) as reader:
        (content,) = [member.content for _, member in reader.members() if member.name == name]
    FolderChangeRequests(node.state).submit(Change(id="", contents=(content,)), SystemClock())
    node.run_once()
    shutil.rmtree(node.inbox / name)


def test_what_left_is_not_needed_once_the_others_were_folded_again(node: RealNode) -> None:
    leave(node, "a")
    found = check(node, replay=True)
    assert found.problems == []
    assert "replay: 2 contributions folded again from the base, same statistics" in found.checked
    node.put("d", 4)
    node.run_once()
    leave(node, "c")
    found = check(node, replay=True)
    assert found.problems == []
    assert "replay: 2 contributions folded again from the base, same statistics" in found.checked
    node.put("d", 99)
    (problem,) = check(node, replay=True).problems
    assert "now holds" in problem and "the merge holds" in problem


def test_what_was_subtracted_is_needed_still(tmp_path: Path) -> None:
    node = RealNode(tmp_path, method={"name": "average"})
    for seed, name in enumerate("abcd"):
        node.put(name, seed)
    node.run_once()
    leave(node, "a")
    (problem,) = check(node, replay=True).problems
    assert "a is no longer at" in problem


def test_replay_names_a_contribution_that_was_replaced(node: RealNode) -> None:
    node.put("c", 99)
    (problem,) = check(node, replay=True).problems
    assert "c" in problem and "replaced since" in problem
    assert not (node.state / ".replay").exists()


def test_replay_reads_what_was_asked_for_through_links(tmp_path: Path) -> None:
    """A snapshot of a model cache is a directory of links into its blobs."""
    node = RealNode(tmp_path)
    blobs = tmp_path / "cache/blobs"
    snapshot = tmp_path / "cache/snapshots/1234"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in node.put("a", 1).iterdir():
        file.rename(blobs / f"blob-{file.name}")
        (snapshot / file.name).symlink_to(f"../../blobs/blob-{file.name}")
    node.configure(registries=[])
    submit_request(node.state, snapshot)
    node.run_once()
    assert node.outcomes() == {"1234": ["folded"]}
    assert check(node, replay=True).problems == []


def test_a_node_that_never_ran(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="ledger"):
        check(RealNode(tmp_path))
