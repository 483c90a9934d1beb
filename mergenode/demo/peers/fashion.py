"""Fashion-MNIST, and how it is dealt to several nodes: alike, skewed, or by classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DATA = Path(__file__).with_name("data") / "fashion-mnist.npz"
CLASSES = 10
CONCENTRATION = 0.5
"""Of the Dirichlet distribution that ``dirichlet`` draws from."""
LEAST = 100
"""Images that every node has at least."""

Dealt = list[NDArray[np.int64]]
"""Per node the places of its images; every image belongs to one node."""


class Images(NamedTuple):
    """``[n, 1, 28, 28]`` in [0, 1], channels last; labels int64 ``[n]``."""

    images: Tensor
    labels: Tensor

    def part(self, places: Tensor) -> Images:
        return Images(self.images[places], self.labels[places])

    def first(self, count: int) -> Images:
        return Images(self.images[:count], self.labels[:count])


@dataclass(frozen=True, slots=True)
class Fashion:
    """10,000 images to train on, 2,000 to score on."""

    training: Images
    test: Images


def load_fashion(path: Path = DATA) -> Fashion:
    """Both parts, a copy of what lies beside this module."""
    with np.load(path, allow_pickle=False) as arrays:
        return Fashion(
            _images(arrays["xtr"], arrays["ytr"]),
            _images(arrays["xte"], arrays["yte"]),
        )


def _images(pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Images:
    images = torch.from_numpy(pixels).float().div_(255).unsqueeze(1)
    return Images(images.contiguous(memory_format=torch.channels_last), torch.from_numpy(labels).long())


def deal(split: str, labels: Tensor, nodes: int, seed: int) -> list[Tensor]:
    """The places of each node's images, in random order. Seeded.

    Raises:
        KeyError: there is no such split.
    """
    draws = np.random.default_rng(seed)
    return [torch.from_numpy(draws.permutation(each)) for each in SPLITS[split](labels.numpy(), nodes, draws)]


def iid(labels: NDArray[np.int64], nodes: int, draws: np.random.Generator) -> Dealt:
    """Equal parts, drawn without looking at labels."""
    return list(np.array_split(draws.permutation(len(labels)), nodes))


def dirichlet(labels: NDArray[np.int64], nodes: int, draws: np.random.Generator) -> Dealt:
    """Every class is shared out by a draw from a symmetric Dirichlet distribution (Hsu et al., arXiv 1909.06335).

    Drawn again until every node has ``LEAST`` images.
    """
    while True:
        parts: list[list[NDArray[np.int64]]] = [[] for _ in range(nodes)]
        for each in range(CLASSES):
            places = draws.permutation(np.flatnonzero(labels == each))
            ends = np.cumsum(draws.dirichlet([CONCENTRATION] * nodes))[:-1] * len(places)
            for part, places_of_one in zip(parts, np.split(places, ends.astype(np.int64)), strict=True):
                part.append(places_of_one)
        dealt = [np.concatenate(part) for part in parts]
        if min(len(places) for places in dealt) >= LEAST:
            return dealt


def classes(labels: NDArray[np.int64], nodes: int, draws: np.random.Generator) -> Dealt:
    """No class at two nodes: ten classes are dealt like cards, two to each of five nodes."""
    cards = draws.permutation(CLASSES)
    return [np.flatnonzero(np.isin(labels, cards[node::nodes])) for node in range(nodes)]


SPLITS: Mapping[str, Callable[[NDArray[np.int64], int, np.random.Generator], Dealt]] = {
    "iid": iid,
    "dirichlet": dirichlet,
    "classes": classes,
}
