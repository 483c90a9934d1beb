"""A real node with a real plug-in chooses of a pool: what serves gets weight, the rest none, also through a kill."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mergenode.ledger.records import Folded, Selected
from tests.support.checkpoints import write_single
from tests.support.choosing_task import goal, weights, write_plugin
from tests.support.real_node import Process, RealNode, mergenode

SETTINGS = {"method": {"name": "task_arithmetic", "scale": 1.0}, "snapshots": {"every": 0}}


def node_at(root: Path, **selector: object) -> RealNode:
    write_plugin(root / "plugins")
    return RealNode(
        root, tensors=weights(0), task={"entrypoint": "choosing_task:Task", "path": "./plugins"},
        selector={"name": "frank_wolfe", "gap": 0.02, "rounds": 12, **selector}, **SETTINGS,
    )  # fmt: skip


def offer(node: RealNode, name: str, vector: dict[str, Tensor], factor: float = 1.0) -> None:
    """A fine-tune with this task vector, renamed into place."""
    tuned = {key: base + factor * vector[key] for key, base in weights(0).items()}
    write_single(node.root / f".{name}", tuned).rename(node.inbox / name)


def fill(node: RealNode) -> None:
    """One that serves, in two copies; two of something else; two that are turned round or far too large."""
    offer(node, "first", weights(1, 0.2))
    offer(node, "copy", weights(1, 0.2))
    offer(node, "noise", weights(3, 0.2))
    offer(node, "other", weights(4, 0.2))
    offer(node, "flipped", weights(1, 0.2), -1.0)
    offer(node, "second-flipped", weights(2, 0.2), -3.0)


def chosen(node: RealNode) -> dict[str, float]:
    return {entry["name"]: entry["weight"] for entry in newest(node).target}


def newest(node: RealNode) -> Selected:
    fact = node.facts("selected")[-1]
    assert isinstance(fact, Selected)
    return fact


def published(node: RealNode) -> dict[str, Tensor]:
    return load_file(node.published / "latest" / "model.safetensors")


def distance(node: RealNode) -> float:
    return max(float((value - goal()[name]).abs().max()) for name, value in published(node).items())


@pytest.mark.slow
def test_only_what_serves_gets_weight_and_a_better_one_shifts_it(tmp_path: Path) -> None:
    node = node_at(tmp_path)
    fill(node)
    assert node.run_once().complete
    assert len(chosen(node).keys() & {"first", "copy"}) == 1 and not chosen(node).keys() & {"flipped", "second-flipped"}
    before = newest(node)
    assert before.size == 5 and max(chosen(node), key=lambda name: chosen(node)[name]) in ("first", "copy")
    ranked = json.loads(mergenode("pool", "rank", "--json", "-c", node.config).stdout)
    assert ranked["contributions"][0]["why"] == "chosen" and ranked["gap"] <= 0.05 * ranked["loss"]
    assert {entry["name"]: entry["why"] for entry in ranked["contributions"]}["flipped"] == "useless"

    offer(node, "better", {name: value - weights(0)[name] for name, value in goal().items()})
    assert node.run_once().complete
    assert max(chosen(node), key=lambda name: chosen(node)[name]) == "better"
    assert newest(node).loss < before.loss and distance(node) < 0.05
    assert {fact.name: fact.weight for fact in node.facts("folded") if isinstance(fact, Folded)} | chosen(node) == {
        fact.name: fact.weight for fact in node.facts("folded") if isinstance(fact, Folded)
    }, "what is folded last has the weight that was chosen"
    assert node.problems() == [] and node.versions() == [1, 2]
    listed = json.loads(mergenode("pool", "list", "--json", "-c", node.config).stdout)["pool"]
    assert {entry["name"] for entry in listed if entry["in_merge"]} == set(chosen(node)) and len(listed) == 7


@pytest.mark.slow
def test_killed_during_a_selection_it_ends_the_same(tmp_path: Path) -> None:
    undisturbed, killed = node_at(tmp_path / "a"), node_at(tmp_path / "b")
    for node in (undisturbed, killed):
        fill(node)
    assert undisturbed.run_once().complete
    with Process("run", "-c", killed.config) as process:
        process.until("selection: round 1")
        process.end(signal.SIGKILL)
    assert killed.facts("selected", "folded", "published") == [] and not (killed.published / "latest").exists()
    assert killed.run_once().complete
    assert chosen(killed) == chosen(undisturbed) and newest(killed).gaps == newest(undisturbed).gaps
    assert killed.manifest()["lineage"] == undisturbed.manifest()["lineage"]
    assert all(torch.equal(value, published(undisturbed)[name]) for name, value in published(killed).items())
