"""A node that protects a skill: with its Fisher the skill stays, without it it goes; what is protected stays fixed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mergenode.adapters.observers.fan_out import FanOut
from mergenode.bootstrap.changes import carry_out
from mergenode.bootstrap.side_cars import SideCarRequest, make_side_cars
from mergenode.bootstrap.verification import verify
from mergenode.cli.root import cli
from mergenode.errors import FatalError
from mergenode.ledger.changes import Change
from mergenode.ledger.records import Folded
from mergenode.ports.task import TaskProgram
from mergenode.settings import load_settings
from tests.support.checkpoints import Tensors
from tests.support.local_node import load_model
from tests.support.real_node import RealNode
from tests.support.two_skills import ROOT, scores, scores_at, trained, write

SILENT = FanOut([])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tensors, Tensors, Path]:
    """The base knows the old skill; a contribution that learnt the new one; the Fisher of the base on the old skill."""
    place = tmp_path_factory.mktemp("skills")
    base = trained(None, "old")
    write(place / "base", base)
    program = TaskProgram(entrypoint="tests.support.two_skills:Skills", path=ROOT)
    request = SideCarRequest(checkpoint=place / "base", task=program, kinds=["fisher"])
    made = make_side_cars(request, lambda *told: None)
    return base, trained(base, "new", steps=60), made.made[0].path


def node_at(root: Path, base: Tensors, protect: list[dict[str, Any]], method: str = "task_arithmetic") -> RealNode:
    options = {"name": method, "scale": 1.0} if method == "task_arithmetic" else {"name": method}
    return RealNode(
        root, tensors=base, method=options, protect=protect, validation={"max_relative_norm": None}
    )  # fmt: skip


def folds(node: RealNode) -> list[Folded]:
    return [fact for fact in node.facts("folded") if isinstance(fact, Folded)]


@pytest.mark.parametrize("method", ["task_arithmetic", "opcm"])
def test_the_skill_stays_with_protection_and_goes_without(
    tmp_path: Path, world: tuple[Tensors, Tensors, Path], method: str
) -> None:
    base, tuned, fisher = world
    found = {}
    for name, protect in {"off": [], "on": [{"name": "old", "fisher": str(fisher)}]}.items():
        node = node_at(tmp_path / name, base, protect, method)
        write(node.inbox / "new", tuned)
        assert node.run_once().complete
        found[name] = scores_at(node.published / "latest")
        (fact,) = folds(node)
        assert bool(fact.protection) == (name == "on")
    before = scores(base)
    assert found["off"]["old"] < before["old"] - 0.5, "the contribution harms"
    assert found["on"]["old"] > before["old"] - 0.1, "and is held back"
    assert found["on"]["new"] > before["new"] + 0.5, "but only where it harms"
    report = fact.protection
    assert 0.2 < report["share"] < 0.7 and report["by"][0]["left"] <= 0.005 < report["by"][0]["offered"]
    assert set(report["groups"]) <= {group["group"] for group in fact.groups}


def test_it_is_replayable_and_retractable_and_fixed(tmp_path: Path, world: tuple[Tensors, Tensors, Path]) -> None:
    base, tuned, fisher = world
    protect = [{"name": "old", "fisher": str(fisher)}]
    node, alone = node_at(tmp_path / "n", base, protect), node_at(tmp_path / "alone", base, protect)
    other = trained(base, "old", steps=20, seed=5)
    for each in (node, alone):
        write(each.inbox / "other", other)
        assert each.run_once().complete
    write(node.inbox / "new", tuned)
    assert node.run_once().complete
    found = verify(load_settings(node.config), SILENT, replay=True)
    assert not found.problems and any("same statistics" in line for line in found.checked)

    shown = CliRunner().invoke(cli, ["show", "new", "-c", str(node.config)])
    assert shown.exit_code == 0 and "vetoed" in shown.output and "protected old" in shown.output, shown.output

    (content,) = [fact.content for fact in folds(node) if fact.name == "new"]
    assert carry_out(load_settings(node.config), SILENT, Change(id="", contents=(content,)))
    mine, theirs = load_model(node.published / "latest"), load_model(alone.published / "latest")
    assert all((mine[name] - theirs[name]).abs().max() < 1e-6 for name in mine)
    assert not verify(load_settings(node.config), SILENT, replay=True).problems

    for changed in ([], [protect[0] | {"max_rise": 0.1}]):
        settings = json.loads(node.config.read_text()) | {"protect": changed}
        node.config.write_text(json.dumps(settings))
        with pytest.raises(
            FatalError, match=r"this state directory was made with other options of method .*: protect"
        ) as caught:
            node.run_once()
        assert "protect" in caught.value.hint


def test_a_contribution_that_only_harms_is_rejected(tmp_path: Path, world: tuple[Tensors, Tensors, Path]) -> None:
    base, tuned, fisher = world
    node = node_at(tmp_path, base, [{"name": "old", "fisher": str(fisher), "max_rise": 0.0}])
    write(node.inbox / "new", {**base, "0.weight": tuned["0.weight"]})
    assert node.run_once().complete
    assert node.outcomes() == {"new": ["empty_delta"]}


def test_what_is_not_there_is_told_at_the_start(tmp_path: Path, world: tuple[Tensors, Tensors, Path]) -> None:
    node = node_at(tmp_path, world[0], [{"name": "old", "fisher": "./nowhere.fisher.safetensors"}])
    with pytest.raises(FatalError, match="protection old: there is no fisher at") as caught:
        node.run_once()
    assert "mergenode sidecar" in caught.value.hint
