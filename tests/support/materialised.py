"""Deltas of a contribution as whole float64 tensors: the slow and obvious reading of ``Entry``."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mergenode.adapters.checkpoints.contribution import Additive, Contribution, Dense, LowRank
from mergenode.types import DType

DTYPES = {DType.F64: torch.float64, DType.F32: torch.float32, DType.F16: torch.float16, DType.BF16: torch.bfloat16}


def read_tensor(contribution: Contribution, source: str) -> torch.Tensor:
    """One float tensor of the contribution's files in float64."""
    spec = contribution.weights.specs[source]
    buffer = bytearray(spec.nbytes)
    contribution.weights.read_into(source, 0, memoryview(buffer))
    if not spec.nbytes:
        return torch.zeros(spec.shape, dtype=torch.float64)
    return torch.frombuffer(buffer, dtype=DTYPES[spec.dtype]).reshape(spec.shape).double()


def deltas(contribution: Contribution, base: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contribution minus base by base tensor name; touched tensors only."""
    found: dict[str, torch.Tensor] = {}
    for name, entry in contribution.entries.items():
        before = base[name].double()
        if isinstance(entry, Dense):
            found[name] = read_tensor(contribution, entry.source) - before
        elif isinstance(entry, Additive):
            found[name] = entry.scale * read_tensor(contribution, entry.source)
        else:
            found[name] = _product(contribution, entry).reshape(before.shape)
        assert found[name].shape == before.shape
    return found


def _product(contribution: Contribution, entry: LowRank) -> torch.Tensor:
    left, right = (read_tensor(contribution, name).flatten(1) for name in (entry.left, entry.right))
    left = left.T if entry.left_transposed else left
    right = right.T if entry.right_transposed else right
    assert left.shape[1] == right.shape[0] == entry.rank
    return entry.scale * left @ right
