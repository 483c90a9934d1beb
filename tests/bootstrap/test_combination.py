"""Two states in, one out: as if one node had folded everything, each contribution once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mergenode.adapters.engines.local import shards
from mergenode.adapters.engines.local.check import check_generation
from mergenode.adapters.store.sqlite_ledger import open_reader
from mergenode.bootstrap.combination import Combined, CombineRequest, combine_states
from mergenode.ledger.records import Admitted, Restated, Retracted
from mergenode.methods import METHODS, build_method
from mergenode.types import Digest
from tests.support.ledgered_node import TIME, LedgeredNode, engine_on, head_of, members_of
from tests.support.local_node import AMPLE, SILENT, load_model, same_bits
from tests.support.models import factors, fine_tune, random_base, write_lora, write_model
from tests.support.side_cars import write_side_cars

COMBINABLE = [name for name in METHODS if build_method(name, {}).combinable]
RETRACTABLE = [name for name in COMBINABLE if build_method(name, {}).retractable]
EXACT_SUMS = [name for name in COMBINABLE if name in ("average", "task_arithmetic", "ties", "dare", "magmax", "iso")]
ADAPTED = ("layers.0.attn.q_proj", "layers.0.mlp.down_proj")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 16 << 10)


class World:
    """A base, contributions by name, and nodes that fold them."""

    def __init__(self, root: Path, method: str = "average", **options: object) -> None:
        self.root, self.method, self.options = root, method, options
        self.tensors = random_base()
        self.base = write_model(root / "base", self.tensors)

    def model(self, name: str) -> Path:
        """Full fine-tunes, but for names that begin with ``lora``."""
        path = self.root / "in" / name
        if path.exists():
            return path
        seed = sum(map(ord, name))
        if not name.startswith("lora"):
            return write_side_cars(write_model(path, fine_tune(self.tensors, seed)), self.tensors, seed % 4)
        shapes = {key: tuple(tensor.shape) for key, tensor in self.tensors.items()}
        adapter = write_lora(path, factors(ADAPTED, shapes, seed))
        return write_side_cars(adapter, self.tensors, seed % 4, stem="adapter_model")

    def node(self, name: str, *models: str, weights: tuple[float, ...] = ()) -> LedgeredNode:
        node = LedgeredNode(self.root / name, self.base, self.method, self.options)
        return node.take(*map(self.model, models), weights=weights)

    def combine(self, a: LedgeredNode, b: LedgeredNode, name: str = "both", **changes: Any) -> Combined:
        """Into ``name/state`` unless ``changes`` say otherwise."""
        fields: dict[str, Any] = {
            "states": (a.state, b.state), "base": self.base, "output": self.root / name / "state", "resources": AMPLE,
        }  # fmt: skip
        return combine_states(CombineRequest(**fields | changes), SILENT)

    def published(self, output: str, label: str = "published") -> Mapping[str, Tensor]:
        state = self.root / output / "state"
        return engine_on(state, self.base, self.method, self.options).published(self.root / output / label)


def statistics_of(state: Path) -> dict[str, Tensor]:
    """Every statistic in float64, the first contribution as what it adds, triplets as their product."""
    stored: dict[str, dict[str, Tensor]] = {}
    for path in sorted((state / "statistics").glob("g*/shard-*.safetensors")):
        for key, tensor in load_file(path).items():
            statistic, name = key.split(".", 1)
            stored.setdefault(name, {})[statistic] = tensor.double()
    base = load_model(state.parent.parent / "base")
    found: dict[str, Tensor] = {}
    for name, here in stored.items():
        kept = dict(here)
        if "triplets" in here:
            kept = {"sum": (here["left"] * here["triplets"][0]) @ here["right"].T}
        if "first" in kept:
            kept["sum"] = kept.pop("first") - base[name].double()
        found |= {f"{statistic}.{name}": tensor for statistic, tensor in kept.items()}
    return found


def assert_close(left: Mapping[str, Tensor], right: Mapping[str, Tensor], relative: float = 1e-6) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        if tensor.numel():
            bound = relative if tensor.numel() > 1 else 10 * relative  # the terms of a single number may cancel
            assert (tensor.double() - right[name].double()).norm() <= bound * right[name].double().norm()


def totals_of(node: LedgeredNode) -> Any:
    """Without what describes the merged tensors: the next fold says that again."""
    return pytest.approx({name: value for name, value in node.head.totals.items() if name != "merge_sq"})


def files_below(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def assert_sound(state: Path) -> None:
    """Ledger and statistics are what a node would have left."""
    with closing(open_reader(state / "ledger.sqlite")) as reader:
        assert list(reader.verify()) == []
        head = reader.head()
    folder = state / "statistics" / f"g{head.generation:08d}"
    assert list(check_generation(folder, head.statistics, lambda name, nbytes: None)) == []
    names = {path.name.split("-")[0] for path in state.iterdir()}  # readers leave the ledger's log behind
    assert names == {"base.json", "ledger.sqlite", "lock", "statistics"}
    assert [path.name for path in state.parent.iterdir()] == ["state"]


@pytest.mark.parametrize("method", COMBINABLE)
def test_it_is_the_merge_of_a_node_that_folded_everything(tmp_path: Path, method: str) -> None:
    world = World(tmp_path, method)
    a, b = world.node("a", "one", "lora-two"), world.node("b", "three", "four", "lora-five")
    pooled = world.node("pooled", "one", "lora-two", "three", "four", "lora-five")
    before = files_below(a.state / "statistics"), files_below(b.state / "statistics")

    made = world.combine(a, b)

    state = tmp_path / "both" / "state"
    assert_sound(state)
    assert_close(statistics_of(state), statistics_of(pooled.state))
    head = head_of(state)
    assert head.totals == totals_of(pooled)
    assert (head.count, head.generation, head.restated) == (5, 1, True)
    assert made.restated.statistics == head.statistics
    published, expected = world.published("both"), pooled.published(tmp_path / "pooled" / "published")
    for name, tensor in published.items():
        if tensor.is_floating_point() and tensor.numel():
            spread = 2 if tensor.dtype.itemsize == 2 else 256  # what a decomposition adds is less than a step of those
            rounding = spread * torch.finfo(tensor.dtype).eps * tensor.double().norm()
            assert (tensor.double() - expected[name].double()).norm() <= rounding
    assert (files_below(a.state / "statistics"), files_below(b.state / "statistics")) == before


@pytest.mark.parametrize("method", COMBINABLE)
def test_the_order_of_the_states_changes_no_byte(tmp_path: Path, method: str) -> None:
    world = World(tmp_path, method)
    a, b = world.node("a", "one", "two"), world.node("b", "lora-three", "four")

    forwards, backwards = world.combine(a, b), world.combine(b, a, "back")

    assert forwards.restated.statistics == backwards.restated.statistics
    assert forwards.restated.lineage == backwards.restated.lineage
    assert forwards.origin.ledger_id != backwards.origin.ledger_id


@pytest.mark.parametrize("method", RETRACTABLE)
def test_what_both_hold_enters_once(tmp_path: Path, method: str) -> None:
    world = World(tmp_path, method)
    a, b = world.node("a", "one", "two", "lora-three"), world.node("b", "lora-three", "four", "two", "five")
    pooled = world.node("pooled", "one", "two", "lora-three", "four", "five")

    made = world.combine(a, b)

    state = tmp_path / "both" / "state"
    assert made.combination.shared == 2 and len(made.combination.leaving) == 2
    assert [member.name for member in members_of(state)] == ["one", "two", "lora-three", "four", "five"]
    assert_close(statistics_of(state), statistics_of(pooled.state), 1e-5)
    assert head_of(state).totals == totals_of(pooled)
    assert world.combine(b, a, "back").restated.statistics == made.restated.statistics
    assert_sound(state)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("method", EXACT_SUMS)
def test_where_sums_are_exact_the_published_file_is_the_same(tmp_path: Path, method: str, shared: bool) -> None:
    world = World(tmp_path, method)
    world.tensors = {name: on_grid(tensor, 16) for name, tensor in world.tensors.items()}
    world.base = write_model(tmp_path / "grid" / "base", world.tensors)
    for number, name in enumerate(("one", "two", "three", "four")):
        step = fine_tune(world.tensors, number)
        write_model(tmp_path / "in" / name, {key: on_grid(tensor, 64) for key, tensor in step.items()})
    a, b = world.node("a", "one", "two"), world.node("b", *(["two"] if shared else []), "three", "four")
    pooled = world.node("pooled", "one", "two", "three", "four")

    world.combine(a, b)

    published, expected = world.published("both"), pooled.published(tmp_path / "pooled" / "published")
    assert all(same_bits(published[name], expected[name]) for name in expected)


def on_grid(tensor: Tensor, steps: int) -> Tensor:
    """Small multiples of a power of two: sums of them are exact in every type."""
    return ((tensor.double() * 4 * steps).round() / steps).to(tensor.dtype) if tensor.is_floating_point() else tensor


def test_members_keep_where_they_were_folded_first(tmp_path: Path) -> None:
    world = World(tmp_path)
    a, b, c = world.node("a", "one", "two"), world.node("b", "two", "three"), world.node("c", "four")
    ab = world.combine(a, b, "ab")
    again = LedgeredNode.__new__(LedgeredNode)
    again.state = tmp_path / "ab" / "state"

    world.combine(c, again, "abc")

    members = members_of(tmp_path / "abc" / "state")
    assert [(member.name, getattr(member, "origin", None)) for member in members] == [
        ("four", "c"), ("one", "a"), ("two", "a"), ("three", "b"),
    ]  # fmt: skip
    assert all(isinstance(member, Admitted) and Path(member.location).is_dir() for member in members)
    assert ab.origin.ledger_id not in {"a", "b", "c"}


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("method", ["average", "tsvm", "magmax"])
def test_a_merge_that_holds_the_other_is_taken_over(tmp_path: Path, method: str, order: str) -> None:
    world = World(tmp_path, method)
    nodes = {"a": world.node("a", "one", "two", "three"), "b": world.node("b", "three", "one")}

    made = world.combine(nodes[order[0]], nodes[order[1]])

    state = tmp_path / "both" / "state"
    assert made.restated.statistics == nodes["a"].head.statistics
    assert made.restated.lineage == nodes["a"].head.lineage
    shard = "shard-00000.safetensors"
    assert (state / "statistics" / "g00000001" / shard).samefile(nodes["a"].folder / shard)
    expected = ["one", "two", "three"] if order == "ab" else ["three", "one", "two"]
    assert [member.name for member in members_of(state)] == expected
    assert_sound(state)


def test_a_maximum_needs_nothing_taken_out(tmp_path: Path) -> None:
    world = World(tmp_path, "magmax")
    a, b = world.node("a", "one", "two"), world.node("b", "two", "three")
    pooled = world.node("pooled", "one", "two", "three")

    made = world.combine(a, b)

    assert made.combination.shared == 1 and not made.combination.leaving
    state = tmp_path / "both" / "state"
    assert head_of(state).totals == totals_of(pooled)
    assert all(torch.equal(tensor, statistics_of(pooled.state)[name]) for name, tensor in statistics_of(state).items())


def test_of_two_weights_the_first_counts(tmp_path: Path) -> None:
    world = World(tmp_path)
    a = world.node("a", "one", "two", weights=(1.0, 0.5))
    b = world.node("b", "two", "three", "four", weights=(2.0, 1.0, 1.0))
    pooled = world.node("pooled", "one", "two", "three", "four", weights=(1.0, 0.5, 1.0, 1.0))

    made = world.combine(a, b)

    state = tmp_path / "both" / "state"
    assert [(kept.weight, other.weight) for kept, other in made.combination.uneven] == [(0.5, 2.0)]
    assert [member.weight for member in members_of(state)] == [1.0, 0.5, 1.0, 1.0]
    assert_close(statistics_of(state), statistics_of(pooled.state))
    assert head_of(state).totals == totals_of(pooled)


def test_a_contained_merge_with_other_weights_is_added_up(tmp_path: Path) -> None:
    world = World(tmp_path)
    a, b = world.node("a", "one", weights=(0.5,)), world.node("b", "one", "two")
    pooled = world.node("pooled", "one", "two", weights=(0.5, 1.0))

    world.combine(a, b)

    assert_close(statistics_of(tmp_path / "both" / "state"), statistics_of(pooled.state))


def retract(node: LedgeredNode, name: str) -> Digest:
    """As far as the ledger goes, in the middle of a state: nothing here reads its statistics."""
    member = next(member for member in members_of(node.state) if member.name == name)
    head = node.head
    node.append(
        Retracted(
            time=TIME, registry=member.registry, name=name, revision="1", content=member.content, why="no consent"
        ),
        Restated(
            time=TIME, generation=head.generation + 1, count=head.count - 1, totals=head.totals,
            statistics=head.statistics or Digest(""), lineage=head.lineage, how="subtracted",
        ),
    )  # fmt: skip
    (node.state / "statistics" / f"g{head.generation:08d}").rename(node.folder)
    return member.content


def test_what_was_retracted_stays_out_unless_the_other_node_kept_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    a, b = world.node("a", "one", "two", "three"), world.node("b", "two", "four")
    gone, contested = retract(a, "three"), retract(a, "two")

    made = world.combine(a, b)

    assert [member.name for member, _ in made.combination.contested] == ["two"]
    with closing(open_reader(tmp_path / "both" / "state" / "ledger.sqlite")) as reader:
        retraction = reader.retraction(gone)
        assert retraction is not None and retraction.why == "no consent"
        assert reader.by_content(gone) is None
        assert reader.by_content(contested) is not None
        assert reader.verify() == []
    assert [member.name for member in members_of(tmp_path / "both" / "state")] == ["one", "two", "four"]


def test_many_shared_ones_leave_in_several_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mergenode.adapters.engines.local.combine._SOURCES", 2)
    world = World(tmp_path)
    a = world.node("a", "one", "two", "three", "four", "five", "six")
    b = world.node("b", "two", "three", "four", "five", "six", "seven")
    pooled = world.node("pooled", "one", "two", "three", "four", "five", "six", "seven")

    made = world.combine(a, b)

    assert len(made.combination.leaving) == 5
    assert_close(statistics_of(tmp_path / "both" / "state"), statistics_of(pooled.state), 1e-5)
    assert head_of(tmp_path / "both" / "state").totals == totals_of(pooled)
    assert_sound(tmp_path / "both" / "state")


def test_a_state_that_never_folded_adds_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    made = world.combine(world.node("a"), world.node("b", "one"))
    assert made.restated.count == 1 and made.combination.taken == 1
    assert_sound(tmp_path / "both" / "state")


def test_threads_change_no_byte(tmp_path: Path) -> None:
    world = World(tmp_path, "aswudi")
    a, b = world.node("a", "one", "two"), world.node("b", "three")
    digests = set()
    for threads in (1, 3):
        resources = type(AMPLE)(memory_limit=8 << 30, threads=threads, device="cpu")
        digests.add(world.combine(a, b, f"{threads}", resources=resources).restated.statistics)
    assert len(digests) == 1
