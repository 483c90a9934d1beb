"""States that cannot be combined, nodes that go on meanwhile, file systems without links, and what comes after."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mergenode.adapters.engines.local import combine, shards
from mergenode.adapters.engines.local.engine import Resources
from mergenode.bootstrap import combination_statistics
from mergenode.bootstrap.combination import CombineRequest, combine_states
from mergenode.errors import FatalError, TransientError, UsageError
from mergenode.ledger.records import Duplicate, Published
from tests.bootstrap.test_combination import World, assert_close, assert_sound, statistics_of
from tests.support.ledgered_node import LedgeredNode, head_of, members_of
from tests.support.local_node import AMPLE, SILENT
from tests.support.models import fine_tune, write_model
from tests.support.real_node import RealNode


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 16 << 10)


def assert_nothing_was_made(world: World) -> None:
    folder = world.root / "both"
    assert not folder.exists() or list(folder.iterdir()) == []


def test_states_of_other_bases_methods_or_options_are_not_mixed(tmp_path: Path) -> None:
    world, other = World(tmp_path / "1", "ties"), World(tmp_path / "2", "ties", density=0.5)
    first = world.node("a", "one")
    with pytest.raises(UsageError, match=r"option density of ties is 0\.2 in one and 0\.5 in the other"):
        world.combine(first, other.node("b", "two"))
    other.method, other.options = "average", {}
    with pytest.raises(UsageError, match="method ties, the other with average"):
        world.combine(first, other.node("c", "two"))
    other.method, other.base = "ties", write_model(tmp_path / "2" / "other", fine_tune(other.tensors, 5))
    with pytest.raises(UsageError, match="was made for the base"):
        world.combine(first, other.node("d", "two"))
    with pytest.raises(UsageError, match="has digest"):
        world.combine(first, world.node("e", "two"), base=other.base)
    assert_nothing_was_made(world)


def test_what_cannot_be_combined_says_what_to_do_instead(tmp_path: Path) -> None:
    world = World(tmp_path, "opcm")
    with pytest.raises(UsageError, match="merges of opcm cannot be combined") as refused:
        world.combine(world.node("a", "one"), world.node("b", "two"))
    assert "mergenode ingest" in refused.value.hint
    assert_nothing_was_made(world)


def test_paths_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    world = World(tmp_path)
    a, b = world.node("a", "one"), world.node("b", "two")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    link = tmp_path / "link"
    link.symlink_to(a.state)
    with pytest.raises(UsageError, match="already exists"):
        world.combine(a, b, "", output=tmp_path / "taken")
    with pytest.raises(UsageError, match="named twice"):
        world.combine(a, b, states=(a.state, link))
    for inside in (a.state / "sub", link / "sub", b.state / "statistics" / "deep" / "sub"):
        with pytest.raises(UsageError, match="which is only read"):
            world.combine(a, b, output=inside)
    with pytest.raises(UsageError, match="is not a state directory"):
        world.combine(a, b, states=(a.state, tmp_path / "base"))
    with pytest.raises(UsageError, match="neither state holds a contribution"):
        world.combine(world.node("c"), world.node("d"))
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "state").mkdir()
    world.combine(a, b)
    assert_sound(tmp_path / "both" / "state")


def test_a_method_that_cannot_take_out_names_what_both_hold(tmp_path: Path) -> None:
    world = World(tmp_path, "tsvm")
    with pytest.raises(FatalError, match="both states hold 'two', and tsvm cannot take a contribution out") as refused:
        world.combine(world.node("a", "one", "two"), world.node("b", "two", "three"))
    assert "mergenode retract" in refused.value.hint


def test_shared_files_that_are_gone_or_replaced_are_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    a, b = world.node("a", "one", "two"), world.node("b", "two", "three")
    moved = tmp_path / "in" / "two"
    moved.rename(tmp_path / "aside")
    with pytest.raises(FatalError, match=r"both states hold 'two', and the files .* are gone"):
        world.combine(a, b)
    write_model(moved, fine_tune(world.tensors, 99))
    with pytest.raises(FatalError, match="cannot be taken out of one of them") as refused:
        world.combine(a, b)
    assert "mergenode retract NAME" in refused.value.hint
    assert_nothing_was_made(world)


def test_shared_files_may_be_where_the_other_ledger_says(tmp_path: Path) -> None:
    world = World(tmp_path)
    a = world.node("a", "one", "two")
    shutil.copytree(tmp_path / "in" / "two", tmp_path / "elsewhere" / "two")
    b = world.node("b", "three").take(tmp_path / "elsewhere" / "two")
    pooled = world.node("pooled", "one", "two", "three")
    for gone in ("in", "elsewhere"):
        (tmp_path / gone / "two").rename(tmp_path / "aside")
        world.combine(a, b, gone)
        assert_close(statistics_of(tmp_path / gone / "state"), statistics_of(pooled.state), 1e-5)
        (tmp_path / "aside").rename(tmp_path / gone / "two")
        shutil.rmtree(tmp_path / gone / "state")


@pytest.mark.parametrize("method", ["average", "swudi"])
def test_damaged_statistics_are_not_passed_on(tmp_path: Path, method: str) -> None:
    world = World(tmp_path, method)
    a, b = world.node("a", "one", "two"), world.node("b", "three", "four")
    shard = b.folder / "shard-00001.safetensors"
    content = bytearray(shard.read_bytes())
    content[-3] ^= 0x40
    shard.write_bytes(content)
    with pytest.raises(FatalError, match="has not the recorded digest") as refused:
        world.combine(a, b)
    assert refused.value.message.startswith(f"{b.folder}: ")
    with pytest.raises(FatalError, match="does not have the recorded digest") as refused:
        world.combine(world.node("c"), b)
    assert refused.value.message.startswith(f"{b.folder}: ")
    record = a.folder / "shard-00000.json"
    changed = json.loads(record.read_bytes())
    next(iter(changed["tensors"].values()))["statistics"]["sum"] = "blake3:00"
    record.write_text(json.dumps(changed))
    with pytest.raises(FatalError, match="do not add up to the digest in the ledger"):
        world.combine(a, world.node("d", "five"))
    assert_nothing_was_made(world)


def test_statistics_of_other_shapes_are_damage(tmp_path: Path) -> None:
    world = World(tmp_path)
    a, b = world.node("a", "one", "two"), world.node("b", "three", "four")
    shard = next(path for path in sorted(b.folder.glob("*.safetensors")) if "sum.vision.gate" in load_file(path))
    tensors = load_file(shard)
    tensors["sum.vision.gate"] = torch.zeros(3)
    save_file(tensors, shard)
    size = shard.stat().st_size
    record = shard.with_suffix(".json")
    record.write_text(json.dumps({**json.loads(record.read_bytes()), "bytes": size}))
    with pytest.raises(FatalError, match=r"vision\.gate"):
        world.combine(a, b)


def test_too_little_memory_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(FatalError, match=r"^--memory-limit 1 MiB cannot hold") as caught:
        world.combine(
            world.node("a", "one"), world.node("b", "two"),
            resources=Resources(memory_limit=1 << 20, threads=1, device="cpu"),
        )  # fmt: skip
    assert re.fullmatch(r"Set --memory-limit to at least \d+MiB\.", caught.value.hint), "options of states are given"
    assert_nothing_was_made(world)


def test_too_little_disk_is_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    monkeypatch.setattr(combination_statistics, "free_bytes", lambda path: 16 << 20)
    with pytest.raises(FatalError, match="of disk"):
        world.combine(world.node("a", "one"), world.node("b", "two"))
    assert_nothing_was_made(world)


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the states lay on another file system than the output."""

    def refused(source: Path, target: Path) -> None:
        target.mkdir(parents=True)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(combine, "link_directory", refused)


@pytest.mark.parametrize("shared", ["", "two"])
def test_states_may_lie_on_other_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: str) -> None:
    world = World(tmp_path, "swudi")
    a, b = world.node("a", "one", "two"), world.node("b", *filter(None, ["three", shared]))
    without_links(monkeypatch)
    world.combine(a, b)
    assert_close(
        statistics_of(tmp_path / "both" / "state"), statistics_of(world.node("c", "one", "two", "three").state), 1e-5
    )
    assert_sound(tmp_path / "both" / "state")
    contained = world.combine(a, world.node("d", "two"), "copied")
    assert contained.restated.statistics == a.head.statistics
    assert not (tmp_path / "copied/state/statistics/g00000001/shard-00000.json").samefile(a.folder / "shard-00000.json")


def going_on(node: LedgeredNode, models: list[Path], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the node fold the next of ``models`` whenever the combination is about to call ``name``."""
    original: Callable[..., object] = getattr(combination_statistics, name)

    def first_the_node(*args: object) -> object:
        if models:
            node.take(models.pop(0))
        return original(*args)

    monkeypatch.setattr(combination_statistics, name, first_the_node)


@pytest.mark.parametrize("linked", [True, False])
def test_a_node_that_goes_on_meanwhile_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    """Before its generation has a second name, or without one: while it is read."""
    world = World(tmp_path)
    a, b = world.node("a", "one"), world.node("b", "two")
    going_on(b, [world.model("three"), world.model("four")], monkeypatch, "linked" if linked else "_refuse_small_disk")
    if not linked:
        without_links(monkeypatch)

    world.combine(a, b)

    assert [member.name for member in members_of(tmp_path / "both" / "state")] == ["one", "two", "three", "four"]
    assert_close(
        statistics_of(tmp_path / "both" / "state"), statistics_of(world.node("c", "one", "two", "three", "four").state)
    )
    assert_sound(tmp_path / "both" / "state")


def test_once_its_statistics_have_a_second_name_a_node_may_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    a, b = world.node("a", "one"), world.node("b", "two")
    going_on(b, [world.model("three")], monkeypatch, "_refuse_small_disk")
    world.combine(a, b)
    assert [member.name for member in members_of(tmp_path / "both" / "state")] == ["one", "two"]
    assert head_of(b.state).count == 2
    assert_sound(tmp_path / "both" / "state")


def test_a_node_that_is_always_faster_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    a, b = world.node("a", "one"), world.node("b", "two")
    going_on(b, [world.model(f"more-{n}") for n in range(12)], monkeypatch, "linked")
    with pytest.raises(TransientError, match="faster than their states can be read"):
        world.combine(a, b)
    assert_nothing_was_made(world)


def test_statistics_that_are_missing_are_the_operators_affair(tmp_path: Path) -> None:
    world = World(tmp_path)
    a, b = world.node("a", "one"), world.node("b", "two")
    shutil.rmtree(b.folder)
    with pytest.raises(FatalError, match="which the ledger names, are missing"):
        world.combine(a, b)


def test_what_a_killed_attempt_left_is_cleared(tmp_path: Path) -> None:
    world = World(tmp_path)
    left = tmp_path / "both" / ".state.combining"
    (left / "statistics" / "g00000001").mkdir(parents=True)
    (left / "statistics" / "g00000001" / "shard-00099.safetensors").write_bytes(b"half")
    (left / "ledger.sqlite.new").write_bytes(b"half")
    world.combine(world.node("a", "one"), world.node("b", "two"))
    assert_sound(tmp_path / "both" / "state")


def test_a_node_goes_on_from_there(tmp_path: Path) -> None:
    """It publishes, knows what it holds, folds what is new."""
    nodes = [RealNode(tmp_path / name, method={"name": "average"}) for name in ("a", "b", "both")]
    for node, seeds in zip(nodes, ((1, 2), (2, 3), ()), strict=True):
        for seed in seeds:
            node.put(f"m{seed}", seed)
        if seeds:
            assert node.run_once().complete
    together = nodes[2]
    states = (nodes[0].state, nodes[1].state)
    request = CombineRequest(states=states, base=together.base, output=together.state, resources=AMPLE)
    combine_states(request, SILENT)
    together.put("again", 3)
    together.put("new", 4)
    assert together.run_once().complete

    kinds = [type(fact) for fact in together.facts("published", "duplicate")]
    assert kinds.count(Duplicate) == 1 and kinds.count(Published) >= 2
    assert [entry["name"] for entry in together.manifest()["contributions"]] == ["m1", "m2", "m3", "new"]
    assert together.problems() == []
