"""A CountSketch of long vectors whose every machine makes the same one, at the speed at which they are read.

Charikar, Chen, Farach-Colton: Finding frequent items in data streams (2002), as a linear map ``S`` of few buckets;
``<S x, S y>`` is an estimate of ``<x, y>`` without bias (Pagh: Compressed matrix multiplication, 2013, lemma 2.1).
Deviation: not every element draws a bucket of its own. A run of ``m`` elements of a tensor is rotated as a whole by a
random distance, so that adding it up is one pass over consecutive memory; every element has a random sign. Two elements
of different runs still meet with probability ``1 / m``, two of one run never. Signs and distances come from BLAKE3 over
seed, name and position, so the bound of the variance is that of independent draws::

    Var <S x, S y> <= (||x||^2 ||y||^2 + <x, y>^2) / m
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from blake3 import blake3
from torch import Tensor

_DOMAIN = b"mergenode/sketch/1\n"
_LEVELS = 127


@dataclass(frozen=True, slots=True)
class SketchScheme:
    """Which map it is. Sketches can be compared when their schemes are equal.

    ``buckets``: m. A stored sketch has a byte for each; the default makes an error of ``||x|| ||y|| / 362``.
    """

    seed: int = 0
    buckets: int = 1 << 17

    def __post_init__(self) -> None:
        if self.buckets < 1 or not 0 <= self.seed < 1 << 64:
            raise ValueError(f"{self}: needs a bucket and a seed of 64 bits")

    @property
    def name(self) -> str:
        """One spelling per scheme, for files."""
        return f"countsketch/1 seed={self.seed} buckets={self.buckets}"

    def empty(self) -> Tensor:
        """The sketch of the vector 0: (m,) float64."""
        return torch.zeros(self.buckets, dtype=torch.float64)

    def add(self, sketch: Tensor, tensor: str, start: int, values: Tensor) -> None:
        """Add elements of a tensor, (n,) float64 from position ``start`` on (a multiple of 8), to a sketch in place.

        What is added depends on name and positions, not on how the tensor was cut.
        """
        if start % 8:
            raise ValueError(f"{tensor!r}: elements from {start} on, which is no multiple of 8")
        hasher = blake3(_DOMAIN + self.seed.to_bytes(8, "little") + tensor.encode())
        signed = values * _signs(hasher, start, len(values))
        done = 0
        while done < len(values):
            run, inside = divmod(start + done, self.buckets)
            size = min(self.buckets - inside, len(values) - done)
            place = (self._distance(hasher, run) + inside) % self.buckets
            head = min(size, self.buckets - place)
            sketch[place : place + head] += signed[done : done + head]
            sketch[: size - head] += signed[done + head : done + size]
            done += size

    def _distance(self, hasher: blake3, run: int) -> int:
        # 128 bits: their remainder is as good as uniform. Far behind the signs of the largest tensor.
        return int.from_bytes(hasher.digest(length=16, seek=(1 << 62) + 16 * run), "little") % self.buckets

    def error(self, norms: tuple[float, float], product: float, rounding: float = 0.0) -> float:
        """Standard error of an estimate ``product`` of an inner product of vectors with these norms, at most.

        ``rounding``: the step to which the second sketch was rounded.
        """
        first, second = norms
        # The square of a sketch's norm is that of its vector, but for the same kind of error.
        rounded = first * first * rounding * rounding / 12
        return sqrt(((first * second) ** 2 + product * product) / self.buckets + rounded)


def _signs(hasher: blake3, start: int, count: int) -> Tensor:
    raw = hasher.digest(length=-(-count // 8), seek=start // 8)
    bits = np.unpackbits(np.frombuffer(raw, dtype=np.uint8), count=count, bitorder="little")
    return torch.from_numpy(bits).to(torch.float64).mul_(-2).add_(1)


def packed(sketch: Tensor) -> tuple[float, bytes]:
    """A sketch in one byte per bucket, and the step that these bytes count: half a step is the largest error."""
    largest = float(sketch.abs().max())
    step = largest / _LEVELS
    if not step:
        return 0.0, bytes(len(sketch))
    return step, (sketch / step).round_().clamp_(-_LEVELS, _LEVELS).to(torch.int8).numpy().tobytes()
