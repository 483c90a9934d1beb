"""A real node with a real plug-in chooses of a pool: what serves gets weight, the rest none, also through a kill."""

from __future__ import annotations

import json
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import Tensor

from mergenode.cli.root import cli
from mergenode.ledger.records import Folded, Selected
from tests.support.checkpoints import write_single
from tests.support.choosing_task import goal, weights, write_plugin
from tests.support.real_node import Process, RealNode

SETTINGS = {"method": {"name": "task_arithmetic", "scale": 1.0}, "snapshots": {"every": 0}}


def node_at(root: Path, **selector: object) -> RealNode:
    write_plugin(root / "plugins")
    return RealNode(
        root, tensors=weights(0), task={"entrypoint": "choosing_task:Task", "path": "./plugins"},
        selector={"name": "frank_wolfe", "gap": 0.02, "rounds": 6, **selector}, **SETTINGS,
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


def command(node: RealNode, *arguments: str) -> str:
    """A short command, in this process."""
    done = CliRunner().invoke(cli, [*arguments, "-c", str(node.config)])
    assert done.exit_code == 0, done.output
    return done.stdout


def weighed(fact: Selected) -> dict[str, float]:
    return {entry["name"]: entry["weight"] for entry in fact.target}


def chosen(node: RealNode) -> dict[str, float]:
    return weighed(newest(node))


def newest(node: RealNode) -> Selected:
    fact = node.facts("selected")[-1]
    assert isinstance(fact, Selected)
    return fact


def published(node: RealNode) -> dict[str, Tensor]:
    return load_file(node.published / "latest" / "model.safetensors")


def distance(node: RealNode) -> float:
    return max(float((value - goal()[name]).abs().max()) for name, value in published(node).items())


@dataclass(frozen=True)
class Outcome:
    """Where a node is after its first selection; read before anything else happens to it."""

    node: RealNode
    fact: Selected
    lineage: str
    tensors: dict[str, Tensor]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    node = node_at(tmp_path_factory.mktemp("undisturbed"))
    fill(node)
    assert node.run_once().complete
    return Outcome(node, newest(node), node.manifest()["lineage"], published(node))


@pytest.mark.slow
def test_only_what_serves_gets_weight_and_a_better_one_shifts_it(undisturbed: Outcome) -> None:
    node, before = undisturbed.node, undisturbed.fact
    assert len(chosen(node).keys() & {"first", "copy"}) == 1 and not chosen(node).keys() & {"flipped", "second-flipped"}
    assert before.size == 5 and max(chosen(node), key=lambda name: chosen(node)[name]) in ("first", "copy")
    ranked = json.loads(command(node, "pool", "rank", "--json"))
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
    assert "all is well" in command(node, "verify", "--replay")
    listed = json.loads(command(node, "pool", "list", "--json"))["pool"]
    assert {entry["name"] for entry in listed if entry["in_merge"]} == set(chosen(node)) and len(listed) == 7


@pytest.mark.slow
def test_killed_during_a_selection_it_ends_the_same(undisturbed: Outcome, tmp_path: Path) -> None:
    killed = node_at(tmp_path)
    fill(killed)
    with Process("run", "-c", killed.config) as process:
        process.until("selection: round 1")
        process.end(signal.SIGKILL)
    assert killed.facts("selected", "folded", "published") == [] and not (killed.published / "latest").exists()
    assert killed.run_once().complete
    assert chosen(killed) == weighed(undisturbed.fact) and newest(killed).gaps == undisturbed.fact.gaps
    assert killed.manifest()["lineage"] == undisturbed.lineage
    assert all(torch.equal(value, undisturbed.tensors[name]) for name, value in published(killed).items())


@pytest.mark.slow
def test_a_pool_above_its_limit_is_brought_below_it_also_through_a_kill(undisturbed: Outcome, tmp_path: Path) -> None:
    node = node_at(tmp_path, limit=3)
    fill(node)
    with Process("run", "-c", node.config) as process:
        process.until("by itself")
        process.end(signal.SIGKILL)
    assert chosen(node) == weighed(undisturbed.fact)
    records = {path.name: path.stat().st_mtime_ns for path in (node.state / "pool").glob("*.losses")}
    assert records
    assert node.run_once().complete
    kept = {path.name: path.stat().st_mtime_ns for path in (node.state / "pool").glob("*.losses")}
    assert len(kept) == 5 and records.items() <= kept.items(), "what was evaluated before the kill is not again"
    document = json.loads(command(node, "pool", "list", "--json"))
    inside, gone = ({entry["name"] for entry in document[part]} for part in ("pool", "evicted"))
    assert set(chosen(node)) <= inside and len(inside - {"copy"}) == max(3, len(chosen(node))) and len(gone) >= 1
    assert all("its limit is 3" in entry["message"] for entry in document["evicted"])
    assert chosen(node) == weighed(undisturbed.fact) and node.manifest()["lineage"] == undisturbed.lineage
    assert node.problems() == [] and len(node.facts("selected")) == 1 and len(node.facts("rejected")) == len(gone)


def vectors_to(path: Path, vector: dict[str, Tensor], factor: float = 1.0) -> Path:
    return write_single(path, {name: base + factor * vector[name] for name, base in weights(0).items()})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_whoever_waits_for_a_contribution_is_told_when_it_is_left_out(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    node = node_at(tmp_path / "node", limit=2)
    settings = json.loads(node.config.read_text())
    node.config.write_text(json.dumps(settings | {"peers": {"listen": address, "intake": {"enabled": True}}}))
    serves = vectors_to(tmp_path / "serves", weights(1, 0.2))
    flipped = vectors_to(tmp_path / "flipped", weights(1, 0.2), -1.0)

    def told(code: int, *words: object) -> dict[str, Any]:
        done = CliRunner().invoke(cli, [*map(str, words), "--wait", "--json"])
        assert done.exit_code == code, (words, done.output)
        return dict(json.loads(done.stdout))

    with Process("run", "-c", node.config) as process:
        process.until("peers on")
        assert told(0, "ingest", serves, "-c", node.config)["outcome"]["kind"] == "folded"
        pushed = told(1, "push", flipped, "--to", address)
        assert (pushed["outcome"], pushed["folded"]) == ("not_selected", False)
        assert "in the pool of 2" in pushed["message"]
        ranked = json.loads(command(node, "pool", "rank", "--json"))["contributions"]
        why, score = next((entry["why"], entry["score"]) for entry in ranked if entry["registry"] == "push")
        assert (pushed["reason"], pushed["score"]) == (why, score) and why != "chosen"
        assert "`mergenode pool rank`" in pushed["hint"]
        copy = told(0, "push", vectors_to(tmp_path / "copy", weights(1, 0.2)), "--to", address)
        assert (copy["outcome"], copy["folded"]) == ("duplicate", True)
        again = vectors_to(tmp_path / "again", weights(1, 0.2), -1.0)
        asked = told(1, "ingest", again, "-c", node.config)["outcome"]
        assert (asked["kind"], asked["reason"], asked["score"]) == ("not_selected", why, score)
        worse = vectors_to(tmp_path / "worse", weights(1, 0.2), -2.0)
        assert told(1, "push", worse, "--to", address)["outcome"] in ("not_selected", "rejected")
        process.until("evicted")
        answers = [told(1, "push", model, "--to", address) for model in (flipped, worse)]
        assert sorted(answer["outcome"] for answer in answers) == ["not_selected", "rejected"], "one of the two left"
        assert {answer["reason"] for answer in answers} > {"evicted"}
        assert process.end() == 0
    assert set(chosen(node)) == {"serves"} and node.problems() == []
