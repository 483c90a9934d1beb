"""Nodes of a ring in one process: what mixing does, without a network between them. Synchronous rounds.

Every round each node trains on its own images, then replaces its model by the mix of its own and its neighbours'
models of before the mixing. All methods see the same initialisations, the same first training, the same images in the
same order, and the same number of passes: they differ in the mixing alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mergenode.demo.peers.fashion import Fashion, Images, deal
from mergenode.demo.peers.network import Recipe, accuracy, build, calibration, train
from mergenode.mixers.activation_matching import match_activations
from mergenode.mixers.assignment import moved
from mergenode.mixers.graph import derive
from mergenode.mixers.mix import Share, mix, reestimate_batch_norm
from mergenode.mixers.symmetry import State, Symmetry
from mergenode.mixers.topology import Topology, consensus_distance, ring
from mergenode.mixers.weight_matching import match_weights

LOCAL, PLAIN, WEIGHTS, ACTIVATIONS = "local", "plain", "weights", "activations"
METHODS = (LOCAL, PLAIN, WEIGHTS, ACTIVATIONS)

Models = list[dict[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Step:
    """One round, accuracies per node on the test images. ``trained``: before the mixing, ``mixed``: after it.

    ``distance``: consensus distance after mixing, ``moved``: share of units that matching moved, mean over edges.
    """

    round: int
    trained: tuple[float, ...]
    mixed: tuple[float, ...]
    distance: float
    moved: float


class Circle:
    """Five nodes (or as many as ``topology`` has), their images and their first models."""

    def __init__(
        self, fashion: Fashion, split: str, seed: int, recipe: Recipe, topology: Topology | None = None,
        *, same_start: bool = False,
    ) -> None:  # fmt: skip
        """``same_start``: all nodes begin with equal weights, for comparison."""
        self.topology = topology or ring(5)
        self.recipe, self.seed, self.test = recipe, seed, fashion.test
        places = deal(split, fashion.training.labels, self.topology.peers, seed)
        self.shards = [fashion.training.part(each) for each in places]
        self.seeds = [100 * seed + node for node in range(self.topology.peers)]
        starts = [self.seeds[0]] * len(self.seeds) if same_start else self.seeds
        self.network = build(recipe.width, 0)
        self.symmetry: Symmetry = derive(self.network, (fashion.test.images[:2],))
        self.first = [
            self._trained(build(recipe.width, start).state_dict(), node, 0) for node, start in enumerate(starts)
        ]

    def play(self, method: str, rounds: int, shared: Images | None = None) -> Iterator[tuple[Step, Models]]:
        """Round after round: its scores, and the models as they were before its mixing.

        ``shared``: images that all nodes match and estimate BatchNorm statistics on, instead of their own.
        """
        models = self.first
        for number in range(rounds):
            if number:
                models = [self._trained(model, node, number) for node, model in enumerate(models)]
            mixed, share = self._mixed(models, method, shared)
            yield Step(number, self.scores(models), self.scores(mixed), consensus_distance(mixed), share), models
            models = mixed

    def one_average(self, models: Sequence[State], *, matched: bool) -> float:
        """Mean accuracy when every node takes the even average of all models, matched to its own or as they are."""
        everybody = range(len(models))
        averages = []
        for node in everybody:
            others = [models[other] for other in everybody if other != node]
            batches = calibration(self.shards[node], self.recipe)
            if matched:
                found = match_activations(self.symmetry, models[node], others, batches)
                others = [self.symmetry.permuted(o, p) for o, p in zip(others, found, strict=True)]
            state = mix(models[node], [Share(other, 1 / len(models)) for other in others])
            averages.append(self._settled(state, batches))
        return sum(self.scores(averages)) / len(averages)

    def scores(self, models: Sequence[State]) -> tuple[float, ...]:
        return tuple(accuracy(self._filled(model), self.test) for model in models)

    def _mixed(self, models: Models, method: str, shared: Images | None) -> tuple[Models, float]:
        if method == LOCAL:
            return models, 0.0
        result, shares = [], []
        for node, own in enumerate(models):
            weights = self.topology.weights(node, self.topology.neighbours(node))
            near = [other for other in weights if other != node]
            batches = calibration(self.shards[node] if shared is None else shared, self.recipe)
            others: list[Mapping[str, Tensor]] = [models[other] for other in near]
            if method == ACTIVATIONS:
                found = match_activations(self.symmetry, own, others, batches)
            elif method == WEIGHTS:
                found = [match_weights(self.symmetry, own, other) for other in others]
            else:
                found = [self.symmetry.identity() for _ in others]
            shares += [moved(each) for each in found]
            others = [self.symmetry.permuted(o, p) for o, p in zip(others, found, strict=True)]
            state = mix(own, [Share(o, weights[other]) for o, other in zip(others, near, strict=True)])
            result.append(self._settled(state, batches))
        return result, sum(shares) / len(shares)

    def _trained(self, model: State, node: int, round: int) -> dict[str, Tensor]:
        network = self._filled(model)
        train(network, self.shards[node], self.recipe, round, self.seeds[node])
        return _copy(network)

    def _settled(self, model: State, batches: Sequence[Tensor]) -> dict[str, Tensor]:
        network = self._filled(model)
        reestimate_batch_norm(network, batches)
        return _copy(network)

    def _filled(self, model: State) -> nn.Module:
        self.network.load_state_dict(dict(model))
        return self.network


def shared_images(circle: Circle) -> Images:
    """As many images as a node calibrates on, an equal number of every node's."""
    each = circle.recipe.calibration // len(circle.shards)
    parts = [shard.first(each) for shard in circle.shards]
    order = torch.randperm(each * len(parts), generator=torch.Generator().manual_seed(circle.seed))
    images, labels = torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts])
    return Images(images[order], labels[order])


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
