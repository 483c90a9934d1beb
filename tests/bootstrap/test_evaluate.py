"""A node whose scale is chosen by a task plug-in: scores from its process, the choice in manifest and ledger."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from mergenode.bootstrap.node import run_node
from mergenode.errors import UsageError
from mergenode.ledger.records import Published
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
    with pytest.raises(UsageError, match="name no task plug-in"):
        run_node(load_settings(node.config), once=True)
    assert not node.published.exists()
