"""Folds and exports of single matrices beside the bare products and decompositions that they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from benchmarks.methods.timing import Figure, Samples, compared, in_turn
from mergenode.methods import build_method
from mergenode.methods.contract import Incoming, Method, Statistics
from mergenode.types import DType, TensorSpec

SHAPES = ((1024, 1024), (2816, 1024), (1024, 2816))
"""Of a llama layer of width 1024: four square matrices, two that widen, one that narrows."""

MATRICES_OF_A_LAYER = dict(zip(SHAPES, (4, 2, 1), strict=True))
TOTALS = {"count": 2.0, "weight_sum": 2.0, "norm_sum": 2.0}
Actions = Mapping[str, Callable[[], object]]


def task_vectors(shape: tuple[int, int], count: int) -> list[Tensor]:
    """Noise and a few strong directions, as a fine-tune leaves them."""
    draw = torch.Generator().manual_seed(0)
    m, n = shape
    return [
        0.02 * torch.randn(m, n, generator=draw)
        + 0.02 * torch.randn(m, 8, generator=draw) @ torch.randn(8, n, generator=draw)
        for _ in range(count)
    ]


class Stream:
    """One weight of one method with two contributions folded, and a third that arrives."""

    def __init__(self, name: str, shape: tuple[int, int], vectors: Sequence[Tensor]) -> None:
        self.method: Method = build_method(name, {})
        self._spec = TensorSpec("layer.up.weight", DType.F32, shape)
        self._base, self._arriving = torch.zeros(shape), vectors[2]
        self.statistics: Statistics = {}
        for vector in vectors[:2]:
            self.statistics = self._folded(vector)

    def fold(self) -> object:
        return self._folded(self._arriving)

    def export(self) -> object:
        return self.method.export(self._spec, self.statistics, self._base, TOTALS)

    def _folded(self, vector: Tensor) -> Statistics:
        return self.method.fold(self._spec, self.statistics, self._base, Incoming(vector, content="known")).statistics


def measure_kernels(repeats: int) -> list[Figure]:
    """Folds alone, in memory: what a method computes beside what task arithmetic does."""
    shape = SHAPES[1]
    vectors = task_vectors(shape, 3)
    names = ("task_arithmetic", "average", "iso", "dare", "ties", "magmax")
    samples = in_turn({name: Stream(name, shape, vectors).fold for name in names}, 3 * repeats)
    return [compared(f"fold in memory, {name} / task_arithmetic", samples, name, names[0]) for name in names[1:]]


def measure_products(repeats: int) -> list[Figure]:
    """Folds of the closed forms over the products in their definitions."""
    figures = []
    for shape in SHAPES:
        vectors = task_vectors(shape, 3)
        t = vectors[2]
        swudi, aswudi = Stream("swudi", shape, vectors), Stream("aswudi", shape, vectors)

        def two(t: Tensor = t) -> object:
            gram = t.mT @ t
            return gram, t @ gram

        def three(t: Tensor = t) -> object:
            inner, outer = t.mT @ t, t @ t.mT
            return inner, outer, t @ inner if len(inner) <= len(outer) else outer @ t

        samples = in_turn({"swudi": swudi.fold, "two": two, "aswudi": aswudi.fold, "three": three}, repeats)
        size = f"{shape[0]} x {shape[1]}"
        figures.append(compared(f"fold, swudi / its two products, {size}", samples, "swudi", "two", 2.0))
        figures.append(compared(f"fold, aswudi / its three products, {size}", samples, "aswudi", "three", 2.0))
    return figures


def measure_decompositions(repeats: int) -> list[Figure]:
    """Exports over the decompositions of the same matrices by torch: by shape, and summed over a layer."""
    layer: dict[str, list[float]] = {}
    figures = []
    for shape in SHAPES:
        samples = in_turn(_exports(shape), repeats)
        for name, seconds in samples.items():
            parts = [MATRICES_OF_A_LAYER[shape] * value for value in seconds]
            layer[name] = [a + b for a, b in zip(layer[name], parts, strict=True)] if name in layer else parts
        figures += _over_decompositions(samples, f"{shape[0]} x {shape[1]}", limit=0.0)
    return [*_over_decompositions(layer, "a layer", limit=1.5), *figures]


def _exports(shape: tuple[int, int]) -> Actions:
    vectors = task_vectors(shape, 3)
    iso, tsvm, swudi, aswudi = (Stream(name, shape, vectors) for name in ("iso", "tsvm", "swudi", "aswudi"))
    total, left, right = iso.statistics["sum"], tsvm.statistics["left"], tsvm.statistics["right"]
    inner, outer = (total.mT @ total).double(), (total @ total.mT).double()
    return {
        "iso": iso.export,
        "svd of the sum": lambda: torch.linalg.svd(total, full_matrices=False),
        "tsvm": tsvm.export,
        "svd of both sides": lambda: [torch.linalg.svd(side, full_matrices=False) for side in (left, right)],
        "swudi": swudi.export,
        "eigh of the input": lambda: torch.linalg.eigh(inner),
        "aswudi": aswudi.export,
        "eigh of both": lambda: [torch.linalg.eigh(side) for side in (inner, outer)],
    }


def _over_decompositions(samples: Samples, where: str, limit: float) -> list[Figure]:
    pairs = [("iso", "svd of the sum"), ("tsvm", "svd of both sides")]
    pairs += [("swudi", "eigh of the input"), ("aswudi", "eigh of both")]
    return [compared(f"export, {ours} / {needed}, {where}", samples, ours, needed, limit) for ours, needed in pairs]
