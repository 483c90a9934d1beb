"""The task plug-in of the demo's nodes: one node's share of the images, and what can be done with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional

from mergenode.demo.peers.fashion import Images, deal, load_fashion
from mergenode.demo.peers.network import Recipe, accuracy, build, calibration, train
from mergenode.maths.threads import one_thread

SCORED = 1000
"""Test images that a model is scored on: a second one for every score would be felt."""

MODULE = """\
# The task plug-in of this node: its own share of Fashion-MNIST. See docs/tasks.md.
from mergenode.demo.peers.plugin import Classifier


class Task(Classifier):
    split, nodes, node, deal_seed, seed = {split!r}, {nodes}, {node}, {deal_seed}, {seed}
"""
"""A plug-in is made without arguments: each node has a module of its own."""


class Classifier:
    """Knows one node's images. Subclasses say whose: ``node`` of ``nodes`` in a split that ``deal_seed`` drew.

    ``seed``: of the order of images in training.
    """

    split, nodes, node, deal_seed, seed = "iid", 1, 0, 0, 0

    def __init__(self) -> None:
        fashion = load_fashion()
        self.recipe = Recipe()
        self.test = fashion.test.first(SCORED)
        places = deal(self.split, fashion.training.labels, self.nodes, self.deal_seed)
        self.shard = fashion.training.part(places[self.node])

    def build_model(self) -> nn.Module:
        return build(self.recipe.width, seed=0)

    def calibration_batches(self) -> Sequence[Images]:
        images = calibration(self.shard, self.recipe)
        size = self.recipe.calibration_batch
        return [Images(batch, self.shard.labels[k * size : k * size + len(batch)]) for k, batch in enumerate(images)]

    def loss(self, model: nn.Module, batch: Images) -> Tensor:
        return functional.cross_entropy(model(batch.images), batch.labels)

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        with one_thread():
            return {"accuracy": accuracy(model, self.test)}

    def train(self, model: nn.Module, round: int) -> Mapping[str, float]:
        """The passes of one round; how well the model does then."""
        with one_thread():
            loss = train(model, self.shard, self.recipe, round, self.seed)
            return {"loss": loss, "accuracy": accuracy(model, self.test)}
