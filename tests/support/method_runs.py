"""Whole models driven through a method in memory, the way an engine does it tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mergenode.methods.accumulator import running_sum
from mergenode.methods.contract import Incoming, Method, Statistics
from mergenode.types import DType, TensorSpec

Model = dict[str, Tensor]

DTYPES = {
    torch.float64: DType.F64,
    torch.float32: DType.F32,
    torch.float16: DType.F16,
    torch.bfloat16: DType.BF16,
}


def spec_of(name: str, tensor: Tensor) -> TensorSpec:
    return TensorSpec(name, DTYPES[tensor.dtype], tuple(tensor.shape))


def widened(tensor: Tensor) -> Tensor:
    """In accumulator dtype."""
    return tensor.clone() if tensor.dtype == torch.float64 else tensor.float()


def incoming(base: Tensor, tuned: Tensor, share: float = 1.0, *, dense: bool = True) -> Incoming:
    """What an engine makes of a dense contribution of weight ``share``, or of an adapter."""
    delta = widened(tuned) - widened(base)
    if share != 1.0:
        delta = delta * share
    return Incoming(delta, widened(tuned) if dense and share == 1.0 else None)


def running(statistics: Statistics, base: Tensor) -> Tensor:
    """The running merge that ``merge_sq`` and ``dot`` are about, in the shape of the weight."""
    if "selected" in statistics:
        return statistics["selected"]
    if "triplets" in statistics:
        return (statistics["left"] * statistics["triplets"][0]) @ statistics["right"].T
    if "weighted" in statistics:
        return statistics["weighted"] / statistics["weights"]
    if "gram" in statistics:
        product = (statistics["first"] - base) @ statistics["gram"] if "first" in statistics else statistics["product"]
        return product / float(statistics["gram"].diagonal().double().mean())
    if "softmax" in statistics:
        return disentangled(statistics, base)
    return running_sum(statistics, base)


def disentangled(statistics: Statistics, base: Tensor) -> Tensor:
    """What WIDEN's sums stand for: one row of ``softmax`` per kind, one number in it per column (or row)."""
    rows, columns = (1, base.numel()) if base.ndim < 2 else (len(base), base[:1].numel())
    kinds = [name for name in ("magnitude", "direction") if name in statistics]
    merged = statistics["above"].reshape(rows, columns).clone()
    for kind, softmax in zip(kinds, statistics["softmax"], strict=True):
        merged += statistics[kind].reshape(rows, columns) / (softmax if len(softmax) == columns else softmax[:, None])
    return (merged / len(kinds)).reshape(base.shape)


@dataclass
class Merge:
    """A running merge of a whole model."""

    method: Method
    base: Model
    statistics: dict[str, Statistics] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)
    last_sums: dict[str, dict[str, float]] = field(default_factory=dict)
    observed: dict[str, dict[str, float]] = field(default_factory=dict)

    def fold(self, tuned: Model, share: float = 1.0, *, dense: bool = True) -> None:
        model_sums: dict[str, float] = {}
        for name, base in self.base.items():
            arrived = incoming(base, tuned[name], share, dense=dense)
            old = self.statistics.get(name, {})
            folded = self.method.fold(spec_of(name, base), old, widened(base), arrived)
            self.statistics[name] = folded.statistics
            self.last_sums[name] = dict(folded.sums)
            self.observed[name] = dict(folded.observed)
            for key, value in folded.sums.items():
                model_sums[key] = model_sums.get(key, 0.0) + value
        self.totals = dict(self.method.advance(self.totals, model_sums, share))

    @property
    def sums(self) -> Model:
        """The running merge of every tensor: the sum S, or what a method has in place of it."""
        return {name: running(self.statistics.get(name, {}), widened(base)) for name, base in self.base.items()}

    def export(self) -> Model:
        return {
            name: self.method.export(spec_of(name, base), self.statistics.get(name, {}), widened(base), self.totals)
            for name, base in self.base.items()
        }


def merge_all(method: Method, base: Model, tuned: Sequence[Model]) -> Merge:
    merge = Merge(method, base)
    for model in tuned:
        merge.fold(model)
    return merge


def weight(*shape: int, seed: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)


SHAPES: dict[str, tuple[int, ...]] = {
    "block.0.up.weight": (40, 16),
    "block.0.down.weight": (16, 40),
    "block.0.square.weight": (24, 24),
    "attn.in_proj_weight": (48, 16),
    "block.0.up.bias": (40,),
    "norm.weight": (16,),
    "embed_tokens.weight": (30, 16),
    "conv.weight": (4, 3, 3, 3),
    "class_embedding": (16,),
    "pool.query": (1, 16),
    "logit_scale": (),
    "empty.weight": (0, 16),
}


def random_models(
    count: int, *, seed: int = 0, dtype: torch.dtype = torch.float32, drift: float = 0.1
) -> tuple[Model, list[Model]]:
    """A base with one tensor of every kind, and fine-tunes of it at relative distance ``drift``."""
    base = {
        name: weight(*shape, seed=seed + index, scale=0.5, dtype=dtype)
        for index, (name, shape) in enumerate(SHAPES.items())
    }
    tuned = []
    for number in range(count):
        offset = 1000 * (number + 1) + seed
        tuned.append(
            {
                name: (
                    widened(tensor) + widened(weight(*tensor.shape, seed=offset + index, scale=drift, dtype=dtype))
                ).to(dtype)
                for index, (name, tensor) in enumerate(base.items())
            }
        )
    return base, tuned
