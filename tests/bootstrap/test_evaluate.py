"""A node whose scale is chosen by a task plug-in: scores from its process, the choice in manifest and ledger."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from mergenode.bootstrap.node import run_node
from mergenode.errors import UsageError
from mergenode.ledger.records import Published, Scored
from mergenode.settings import load_settings
from tests.support.checkpoints import write_single
from tests.support.real_node import RealNode

PLUGIN = """
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Linear(4, 4, bias=False)

class Near:
    '''Best where the mean weight is 0.6.'''
    def build_model(self):
        return Model()

    def evaluate(self, model):
        return {"nearness": -float((model.w.weight.mean() - 0.6).abs())}

class Blind:
    def build_model(self):
        return Model()

class Raises(Near):
    def evaluate(self, model):
        raise RuntimeError("the test set is gone")
"""


def node_with(root: Path, plugin: str | None) -> RealNode:
    tensors = {"w.weight": torch.zeros(4, 4)}
    (root / "plugins").mkdir(parents=True)
    (root / "plugins" / "near_task.py").write_text(PLUGIN)
    task = {"entrypoint": f"near_task:{plugin}", "path": "./plugins"} if plugin else {}
    method = {"name": "task_arithmetic", "scale": "evaluate"}
    return RealNode(root, tensors=tensors, method=method, task=task, validation={"max_relative_norm": None})


def put(node: RealNode, name: str, value: float) -> None:
    write_single(node.inbox / name, {"w.weight": torch.full((4, 4), value)})


def test_the_best_scale_is_published_and_used_again(tmp_path: Path) -> None:
    node = node_with(tmp_path, "Near")
    put(node, "a", 0.4)
    assert node.run_once().complete
    scale = node.manifest()["scale"]
    assert 1.35 < scale["used"] < 1.65, "0.6 of 0.4"
    assert 3 <= len(scale["evaluated"]) <= 9 and scale["evaluated"][0][0] == 0.3
    (fact,) = [fact for fact in node.facts("published") if isinstance(fact, Published)]
    assert fact.scale == scale

    before = (node.published / "v000001" / "mergenode.json").read_bytes()
    shutil.rmtree(node.published / "v000001")
    (tmp_path / "plugins" / "near_task.py").unlink()
    assert node.run_once().complete
    assert (node.published / "v000001" / "mergenode.json").read_bytes() == before
    assert not (node.state / ".exporting").exists()


def test_a_plug_in_that_fails_does_not_stop_the_node(tmp_path: Path) -> None:
    node = node_with(tmp_path, "Raises")
    put(node, "a", 0.4)
    assert node.run_once().complete
    scale = node.manifest()["scale"]
    assert scale["used"] == scale["own"] == 0.3 and scale["evaluated"] == []
    warnings = [json.loads(line) for line in node.log.splitlines() if '"warning"' in line]
    assert any("the test set is gone" in json.dumps(warning) for warning in warnings)


def test_without_a_plug_in_it_is_refused_at_the_start(tmp_path: Path) -> None:
    node = node_with(tmp_path, None)
    with pytest.raises(UsageError, match=r"scale: evaluate needs scores: set task\.entrypoint"):
        run_node(load_settings(node.config), once=True)
    assert not node.published.exists()


def test_every_version_is_scored_unless_nobody_wants_it(tmp_path: Path) -> None:
    node = node_with(tmp_path, "Near")
    put(node, "a", 0.4)
    assert node.run_once().complete
    (fact,) = node.facts("scored")
    assert isinstance(fact, Scored) and (fact.version, fact.generation) == (1, 1)
    assert list(fact.scores) == ["nearness"] and fact.scores["nearness"] == pytest.approx(0.0, abs=0.05)
    task = {"entrypoint": "near_task:Near", "path": "./plugins", "evaluate": "never"}
    node.configure(method={"name": "task_arithmetic", "scale": "evaluate"}, task=task)
    put(node, "b", 0.5)
    assert node.run_once().complete
    assert node.versions() == [1, 2] and len(node.facts("scored")) == 1
    assert node.problems() == []


def test_a_plugin_that_cannot_evaluate_gives_no_scores(tmp_path: Path) -> None:
    node = node_with(tmp_path, "Blind")
    node.configure(task={"entrypoint": "near_task:Blind", "path": "./plugins"})
    put(node, "a", 0.4)
    assert node.run_once().complete
    assert node.versions() == [1] and node.facts("scored") == []
    assert "versions are not scored: near_task:Blind has no evaluate()" in node.log
