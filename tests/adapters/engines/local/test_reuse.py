"""What a version shares with the one before: fewer bytes computed, never other bytes, never a reader hurt."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mergenode.adapters.engines.local import export as export_module
from mergenode.adapters.engines.local import reuse as reuse_module
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.ports.engine import NOTHING_EARLIER, Earlier, Exported
from mergenode.types import DType
from tests.support.local_node import LocalNode, load_model, same_bits
from tests.support.models import factors, fine_tune, random_base, write_lora, write_model

ATTENTION = ["layers.0.attn.q_proj", "layers.0.attn.k_proj"]


def model() -> dict[str, torch.Tensor]:
    """Attention, two large matrices that no attention-only adapter touches, and what is no matrix."""
    draw = torch.Generator().manual_seed(4)
    shapes = {f"{name}.weight": (24, 24) for name in ATTENTION}
    shapes |= {"layers.0.mlp.up.weight": (96, 24), "layers.0.mlp.down.weight": (24, 96), "layers.0.norm.weight": (24,)}
    shapes |= {"model.embed_tokens.weight": (40, 24), "lm_head.weight": (40, 24)}
    return {name: torch.randn(shape, generator=draw) * 0.1 for name, shape in shapes.items()}


class Told(FanOut):
    """Keeps what was said."""

    def __init__(self) -> None:
        super().__init__([])
        self.texts: list[str] = []

    def message(self, level: str, text: str, **fields: object) -> None:
        self.texts.append(text)


class World:
    """A node that published after a full fine-tune, and attention-only adapters to come."""

    def __init__(self, root: Path, method: str = "aswudi", *, shards: int = 1, **options: object) -> None:
        self.root, self.base = root, model()
        self.messages = Told()
        place = write_model(root / "base", self.base, shards=shards)
        self.node = LocalNode(root / "node", place, method, options, observer=self.messages)
        self.node.fold(write_model(root / "full", fine_tune(self.base, 1)))
        self.number = 0
        self.place: Path | None = None

    def adapter(self, seed: int) -> Path:
        shapes = {name: tuple(tensor.shape) for name, tensor in self.base.items()}
        return write_lora(self.root / f"lora-{seed}", factors(ATTENTION, shapes, seed))

    def publish(self, *, alone: bool = False) -> Exported:
        """Export, then rename into place as a publisher does; ``alone``: as if there were no version before."""
        self.number += 1
        staging, place = self.root / f".v{self.number}.staging", self.root / f"v{self.number}"
        previous = None if alone or self.place is None else str(self.place)
        exported = self.node.export(staging, Earlier(previous=previous) if previous else NOTHING_EARLIER)
        staging.rename(place)
        self.place = place
        return exported

    def afresh(self) -> tuple[Exported, dict[str, bytes]]:
        """The same version by an export that shares nothing."""
        memory = self.node.engine.folding.with_name("exported.json")
        kept = memory.read_bytes()
        folder = self.root / f"afresh-{self.number}"
        exported = self.node.export(folder)
        memory.write_bytes(kept)
        return exported, files(folder)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.glob("*.safetensors")}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize(
    ("method", "kept"),
    [
        ("aswudi", {"layers.0.mlp.up.weight", "layers.0.mlp.down.weight", "lm_head.weight"}),
        ("iso", {"layers.0.mlp.up.weight", "layers.0.mlp.down.weight", "lm_head.weight"}),
        ("task_arithmetic", set(model()) - {f"{name}.weight" for name in ATTENTION}),
        ("average", set()),
        ("opcm", set()),
    ],
)
def test_an_attention_only_adapter_leaves_the_rest_as_it_is(
    tmp_path: Path, method: str, kept: set[str], shards: int
) -> None:
    world = World(tmp_path, method, shards=shards)
    assert world.publish().reused == 0
    world.node.fold(world.adapter(1))
    exported = world.publish()
    full, expected = world.afresh()
    assert exported.reused == len(kept)
    assert files(world.place) == expected
    assert (exported.tensors, exported.scale) == (full.tensors, full.scale)
    if kept:
        assert exported.bytes_read < full.bytes_read, "statistics of what is shared are not read"


def test_what_is_shared_is_not_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    world.publish()
    world.node.fold(world.adapter(1))
    computed: set[str] = set()
    export_slice = export_module.export_slice

    def counted(method, spec, *rest, **named):
        computed.add(spec.name)
        return export_slice(method, spec, *rest, **named)

    monkeypatch.setattr(export_module, "export_slice", counted)
    world.publish()
    means = {"layers.0.norm.weight", "model.embed_tokens.weight"}  # of two contributions now, not of one
    assert computed == {f"{name}.weight" for name in ATTENTION} | means


def test_files_in_which_nothing_changed_are_the_same_files(tmp_path: Path) -> None:
    world = World(tmp_path, "task_arithmetic", shards=7)
    world.publish()
    before, old = inodes(world.place), files(world.place)
    world.node.fold(world.adapter(1))
    exported = world.publish()
    shared = {name for name, inode in inodes(world.place).items() if before[name] == inode}
    assert len(shared) == 5 and exported.reused == 5
    assert exported.bytes_written < sum(map(len, old.values())) / 2
    world.node.fold(write_model(tmp_path / "other", fine_tune(world.base, 2)))
    assert world.publish().reused == 0
    assert files(tmp_path / "v1") == old, "a version never changes, whatever is shared with it"


def test_nothing_new_is_nothing_written(tmp_path: Path) -> None:
    world = World(tmp_path, shards=2)
    world.publish()
    before = inodes(world.place)
    exported = world.publish()
    assert inodes(world.place) == before and exported.bytes_written == 0
    assert exported.reused == len(world.base)


def test_where_links_are_impossible_bytes_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(source: object, target: object) -> None:
        raise OSError(95, "operation not supported")

    world = World(tmp_path, shards=2)
    world.publish()
    before, old = inodes(world.place), files(world.place)
    monkeypatch.setattr(reuse_module.os, "link", no_links)
    assert world.publish().reused == len(world.base)
    assert files(world.place) == old
    assert not set(inodes(world.place).values()) & set(before.values())


def damage_preserving_stamps(place: Path) -> None:
    path = place / "model.safetensors"
    status = path.stat()
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    for position in range(start, len(content), 64):
        content[position] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def rewrite(place: Path) -> None:
    shutil.copy(place / "model.safetensors", place / "copy")
    (place / "copy").rename(place / "model.safetensors")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (damage_preserving_stamps, True),
        (rewrite, False),
        (lambda place: (place / "model.safetensors").unlink(), False),
        (lambda place: (place / "model.safetensors").write_bytes(b"\0" * 40), False),
        (shutil.rmtree, False),
    ],
)
def test_a_version_that_is_not_what_was_published_gives_nothing(
    tmp_path: Path, harm: Callable[[Path], None], told: bool
) -> None:
    world = World(tmp_path)
    world.publish()
    world.node.fold(world.adapter(1))
    harm(world.place)
    assert world.publish().reused == 0
    assert files(world.place) == world.afresh()[1]
    assert any("nothing is shared" in text for text in world.messages.texts) is told


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b'{"schema": "mergenode.exported/1"}', b'{"schema": 3}', None]
)
def test_losing_the_memory_costs_a_full_export(tmp_path: Path, content: bytes | None) -> None:
    world = World(tmp_path)
    world.publish()
    world.node.fold(world.adapter(1))
    memory = world.node.engine.folding.with_name("exported.json")
    memory.unlink()
    if content is not None:
        memory.write_bytes(content)
    assert world.publish().reused == 0
    assert files(world.place) == world.afresh()[1]
    assert world.publish().reused == len(world.base), "and is remembered again"


@pytest.mark.parametrize(
    ("method", "first", "second"),
    [
        ("aswudi", {}, {"scale": 0.5}),
        ("aswudi", {}, {"profile": {"*.mlp.*": 0.5}}),
        ("aswudi", {}, {"sides": "input"}),
        ("task_arithmetic", {"scale": 0.3}, {"scale": 0.30000000000000004}),
    ],
)
def test_other_options_share_nothing_but_the_base(tmp_path: Path, method: str, first: dict, second: dict) -> None:
    """A state directory is bound to its options; the memory does not rely on that."""
    world = World(tmp_path, method, **first)
    world.publish()
    other = LocalNode(tmp_path / "other", tmp_path / "base", method, second)
    other.fold(tmp_path / "full")
    shutil.copy(world.node.engine.folding.with_name("exported.json"), other.engine.folding.with_name("exported.json"))
    assert other.export(tmp_path / "out", Earlier(previous=str(world.place))).reused == 0


def test_another_type_shares_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish()
    world.node.engine.publish_dtype = DType.BF16
    assert world.publish().reused == 0
    assert world.publish().reused == len(world.base)


def test_tied_and_integer_tensors_too(tmp_path: Path) -> None:
    base = random_base()
    node = LocalNode(tmp_path / "node", write_model(tmp_path / "base", base, shards=2), "iso")
    node.fold(write_model(tmp_path / "1", fine_tune(base, 1)))
    first = node.export(tmp_path / "v1")
    second = node.export(tmp_path / "v2", Earlier(previous=str(tmp_path / "v1")))
    assert second.reused == len(base) and (second.tensors, second.scale) == (first.tensors, first.scale)
    again = load_model(tmp_path / "v2")
    assert all(same_bits(again[name], tensor) for name, tensor in load_model(tmp_path / "v1").items())


def test_a_norm_rule_that_moves_the_scale_shares_only_the_base(tmp_path: Path) -> None:
    world = World(tmp_path, "aswudi", scale="norm_match")
    world.publish()
    world.node.fold(world.adapter(1))
    assert world.publish().reused == 0
    assert files(world.place) == world.afresh()[1]


@given(order=st.lists(st.sampled_from(["publish", "alone", "a", "b", "full"]), min_size=1, max_size=7))
@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_two_nodes_with_other_schedules_publish_the_same_files(tmp_path_factory, order: list[str]) -> None:
    root = tmp_path_factory.mktemp("world")
    often, once = World(root / "often", "iso"), World(root / "once", "iso")
    for seed, step in enumerate(order, 10):
        if step in ("publish", "alone"):
            often.publish(alone=step == "alone")
            continue
        for world in (often, once):
            if step == "full":
                world.node.fold(write_model(world.root / f"full-{seed}", fine_tune(world.base, seed)))
            else:
                world.node.fold(world.adapter(seed))
    left, right = often.publish(), once.publish()
    assert files(often.place) == files(once.place)
    assert (left.tensors, left.scale) == (right.tensors, right.scale)
    header = json.loads(files(often.place)["model.safetensors"][8:].split(b"}}")[0] + b"}}")
    assert header["__metadata__"] == {"format": "pt"}
