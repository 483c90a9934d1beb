"""Alternating runs of both routines on the same matrices."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from benchmarks.kernel.literal_fold import literal_projection
from mergenode.maths.projection import Variant, project

LIMITS = {
    (768, 768): 0.50,
    (3072, 768): 0.20,
    (768, 3072): 0.20,
    (2048, 2048): 0.50,
    (8192, 2048): 0.20,
    (4096, 4096): 0.50,
}
"""Shapes and the largest share of the literal fold's CPU time that the kernel may take."""


@dataclass(frozen=True)
class Result:
    """CPU seconds of every run in order, and how far apart the answers are, relative to ||delta||."""

    shape: tuple[int, int]
    variant: str
    rank: int
    literal_rank: int
    ours: list[float]
    literal: list[float]
    difference: float

    @property
    def ratio(self) -> float:
        return statistics.median(self.ours) / statistics.median(self.literal)

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "ratio": self.ratio, "limit": LIMITS.get(self.shape)}


def cpu_seconds(routine: Callable[[], tuple[Tensor, int]]) -> tuple[float, Tensor, int]:
    start = time.process_time()
    kept, rank = routine()
    return time.process_time() - start, kept, rank


def contest(shape: tuple[int, int], variant: Variant, repeats: int, alpha: float) -> Result:
    """``repeats`` alternating runs after one small warm-up of each. Gaussian matrices, fixed seed."""
    draw = torch.Generator().manual_seed(0)
    merged, delta = (torch.randn(*shape, generator=draw) * 0.01 for _ in range(2))

    def ours() -> tuple[Tensor, int]:
        found = project(merged, delta, alpha=alpha, variant=variant)
        return found.kept, found.rank

    def literal() -> tuple[Tensor, int]:
        return literal_projection(merged, delta, alpha)

    project(merged[:256, :256].contiguous(), delta[:256, :256].contiguous(), alpha=alpha, variant=variant)
    literal_projection(merged[:256, :256].contiguous(), delta[:256, :256].contiguous(), alpha)
    ours_seconds, literal_seconds = [], []
    for _ in range(repeats):
        seconds, kept, rank = cpu_seconds(ours)
        ours_seconds.append(seconds)
        seconds, literal_kept, literal_rank = cpu_seconds(literal)
        literal_seconds.append(seconds)
    gap = torch.linalg.vector_norm(kept - literal_kept) / torch.linalg.vector_norm(delta)
    return Result(shape, variant.value, rank, literal_rank, ours_seconds, literal_seconds, float(gap))
