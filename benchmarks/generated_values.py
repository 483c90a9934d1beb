"""The numbers in generated checkpoints: streams of blocks that depend on seed and tensor name alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.streamed_safetensors import Tensor

Floats = NDArray[np.float32]

WEIGHT_STD = 0.02  # of a base matrix
RANK = 8  # of an update
_BLOCK_ELEMENTS = 1 << 22  # 16 MiB of float32
_DENSE_SHARE = 0.3  # of an update's norm; the rest is the rank-8 part


def base_blocks(tensor: Tensor, seed: int) -> Iterator[bytes]:
    """Rows of a base weight in bf16: matrices N(0, 0.02^2), vectors N(1, 0.05^2)."""
    return (to_bf16(block).tobytes() for block in _base(tensor, seed))


def fine_tune_blocks(tensor: Tensor, seed: int, number: int, ratio: float) -> Iterator[bytes]:
    """Rows of fine-tune ``number`` in bf16: the rounded base plus an update of ``ratio`` times its norm."""
    for base, update in zip(_base(tensor, seed), _update(tensor, seed, number, ratio), strict=True):
        yield to_bf16(from_bf16(to_bf16(base)) + update).tobytes()


def adapter_blocks(tensor: Tensor, seed: int, number: int, std: float) -> Iterator[bytes]:
    """One LoRA factor in float32, N(0, std^2)."""
    values = stream(seed, "adapter", number, tensor.name).standard_normal(tensor.shape, np.float32)
    yield (values * np.float32(std)).tobytes()


def _base(tensor: Tensor, seed: int) -> Iterator[Floats]:
    source = stream(seed, "base", tensor.name)
    for rows in _row_counts(tensor):
        values = source.standard_normal((rows, *tensor.shape[1:]), np.float32)
        is_matrix = len(tensor.shape) == 2
        yield values * np.float32(WEIGHT_STD) if is_matrix else 1 + values * np.float32(0.05)


def _update(tensor: Tensor, seed: int, number: int, ratio: float) -> Iterator[Floats]:
    dense, left, right = (stream(seed, part, number, tensor.name) for part in ("dense", "left", "right"))
    if len(tensor.shape) == 1:
        for rows in _row_counts(tensor):
            yield dense.standard_normal(rows, np.float32) * np.float32(ratio)
        return
    length = ratio * WEIGHT_STD
    dense_std = np.float32(length * _DENSE_SHARE)
    low_rank_std = np.float32(length * ((1 - _DENSE_SHARE**2) / RANK) ** 0.5)
    rights = right.standard_normal((RANK, tensor.shape[1]), np.float32) * low_rank_std
    for rows in _row_counts(tensor):
        block = dense.standard_normal((rows, tensor.shape[1]), np.float32) * dense_std
        lefts = left.standard_normal((rows, RANK), np.float32)
        for k in range(RANK):  # not a matrix product: BLAS rounds differently from machine to machine
            block += lefts[:, k, None] * rights[k]
        yield block


def _row_counts(tensor: Tensor) -> Iterator[int]:
    columns = tensor.shape[1] if len(tensor.shape) == 2 else 1
    step = max(1, _BLOCK_ELEMENTS // columns)
    return (min(step, tensor.shape[0] - first) for first in range(0, tensor.shape[0], step))


def stream(seed: int, *labels: str | int) -> np.random.Generator:
    """An independent stream per tensor and purpose: no tensor depends on the order of writing."""
    digest = hashlib.blake2b(repr((seed, *labels)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.SFC64(int.from_bytes(digest, "little")))


def to_bf16(values: Floats) -> NDArray[np.uint16]:
    """Round finite float32 values to bfloat16, ties to even. The result holds the bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype("<u2")


def from_bf16(bits: NDArray[np.uint16]) -> Floats:
    """The float32 values of bfloat16 bits, exactly."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
