"""The plug-in of a node, made as the node makes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mergenode.adapters.tasks.worker import TaskWorker
from mergenode.demo.peers.fashion import Fashion, deal
from mergenode.demo.peers.network import build
from mergenode.demo.peers.plugin import MODULE, Classifier
from mergenode.demo.peers.union_story import write_checkpoint
from mergenode.ports.task import TaskProgram


class Second(Classifier):
    split, nodes, node, deal_seed, seed = "classes", 5, 1, 0, 7


@pytest.fixture(scope="module")
def second() -> Classifier:
    return Second()


def test_a_node_has_its_own_images_and_no_others(second: Classifier, fashion: Fashion) -> None:
    places = deal("classes", fashion.training.labels, 5, 0)[1]
    assert torch.equal(second.shard.labels, fashion.training.labels[places])
    batches = second.calibration_batches()
    assert torch.equal(torch.cat([batch.labels for batch in batches]), second.shard.labels[:500])
    assert torch.equal(torch.cat([batch.images for batch in batches]), second.shard.images[:500])


def test_training_and_scores_are_numbers_by_name(second: Classifier) -> None:
    second.shard = second.shard.first(300)
    model = second.build_model()
    loss = float(second.loss(model.eval(), second.calibration_batches()[0]).detach())
    told = second.train(model, 0)
    assert told["loss"] < loss
    assert told["accuracy"] == second.evaluate(model)["accuracy"]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[TaskWorker]:
    text = MODULE.format(split="iid", nodes=5, node=2, deal_seed=0, seed=2)
    (tmp_path / "own_task.py").write_text(text, encoding="utf-8")
    with TaskWorker(TaskProgram(entrypoint="own_task:Task", path=tmp_path, memory_limit=4 << 30)) as made:
        yield made


def test_the_module_that_the_demo_writes_works_in_a_process_of_its_own(worker: TaskWorker, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "start", build(16, 2))
    assert {"build_model", "calibration_batches", "loss", "train", "evaluate"} <= worker.methods()
    assert 0.0 <= worker.evaluate(checkpoint)["accuracy"] < 0.4
