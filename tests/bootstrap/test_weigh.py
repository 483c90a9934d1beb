"""A node whose weights are found by scores: a real plug-in, the choice in the ledger, and what a replay makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file

from mergenode.adapters.observers.fan_out import FanOut
from mergenode.bootstrap.verification import verify
from mergenode.cli.root import cli
from mergenode.ledger.records import Fact, Folded
from mergenode.settings import load_settings
from tests.support.checkpoints import Tensors
from tests.support.real_node import RealNode
from tests.support.two_skills import scores, scores_at, task, trained, write

SILENT = FanOut([])
Skills = tuple[Tensors, Tensors, Tensors]


@pytest.fixture(scope="module")
def skills() -> Skills:
    """A base; a contribution that learnt the old skill; one that learnt the new skill and lost the old one."""
    base = trained(None, "old")
    return base, trained(base, "old", steps=10, rate=0.003, seed=1), trained(base, "new", steps=60)


def node_with(root: Path, skills: Skills, plugin: str = "Skills", **weigh: Any) -> RealNode:
    """A node that holds the first contribution."""
    method = {"name": "task_arithmetic", "scale": 1.0}
    node = RealNode(
        root, tensors=skills[0], method=method, task=task(plugin), weigh={"name": "fit", "evaluations": 8} | weigh,
        validation={"max_relative_norm": None},
    )  # fmt: skip
    write(node.inbox / "first", skills[1])
    assert node.run_once().complete
    return node


def last(node: RealNode, *kinds: str) -> Fact:
    return node.facts(*kinds)[-1]


def test_the_weight_that_scores_best_is_folded_and_recorded(tmp_path: Path, skills: Skills) -> None:
    node = node_with(tmp_path, skills)
    first = last(node, "folded")
    assert isinstance(first, Folded) and first.weight == 1.0 and not first.weighing, "nothing to weigh it against"
    write(node.inbox / "second", skills[2])
    assert node.run_once().complete
    fact = last(node, "folded")
    assert isinstance(fact, Folded) and 0.1 <= fact.weight <= 1.5 and fact.weight != 1.0

    # against brute force, on the merges themselves
    base, old, new = skills
    merges = {
        w / 100: scores({name: old[name] + w / 100 * (new[name] - base[name]) for name in base})
        for w in range(10, 151, 5)
    }
    best = max(sum(found.values()) / 2 for found in merges.values())
    found = scores_at(node.published / "latest")
    assert sum(found.values()) / 2 > best - 0.03
    assert sum(found.values()) > sum(merges[1.0].values()) + 0.05, "better than as it was given"
    record = fact.weighing
    assert record["given"] == 1.0 and {task: each["after"] for task, each in record["tasks"].items()} == found
    assert len(record["trials"]) <= 8 and record["trials"][0][0] == 0.0
    assert record["pareto"]["tasks"] == ["new", "old"] and 1 < len(record["pareto"]["points"]) <= 12
    assert len(json.dumps(dict(record))) < 4000

    checked = verify(load_settings(node.config), SILENT, replay=True)
    assert not checked.problems and any("same statistics" in line for line in checked.checked)
    shown = CliRunner().invoke(cli, ["show", "second", "-c", str(node.config)])
    assert shown.exit_code == 0 and "objective by weight" in shown.output and "no other weight beats" in shown.output
    assert not (node.state / "weighing").exists()


def test_no_score_falls_further_than_may_be(tmp_path: Path, skills: Skills) -> None:
    node = node_with(tmp_path, skills, max_fall=0.02)
    before = scores_at(node.published / "latest")
    write(node.inbox / "second", skills[2])
    assert node.run_once().complete
    found = scores_at(node.published / "latest")
    assert found["old"] >= before["old"] - 0.02 and found["new"] > before["new"]
    assert node.manifest()["contributions"][-1]["weight"] < 0.7


def test_without_scores_the_given_weight_is_folded(tmp_path: Path, skills: Skills) -> None:
    node = node_with(tmp_path, skills, "Raises")
    write(node.inbox / "second", skills[2])
    assert node.run_once().complete
    fact = last(node, "folded")
    assert isinstance(fact, Folded) and fact.name == "second" and fact.weight == 1.0
    assert "test set is gone" in fact.weighing["failed"]
    warnings = [line for line in node.log.splitlines() if '"warning"' in line]
    assert any("weigh: fit found no weight" in line for line in warnings)
    mine, base = load_file(node.published / "latest" / "model.safetensors"), skills[0]
    for name, tensor in mine.items():
        assert (tensor - (skills[1][name] + skills[2][name] - base[name])).abs().max() < 1e-5
