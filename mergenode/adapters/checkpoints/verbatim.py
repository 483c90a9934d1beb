"""Whether a second copy of a weight says the same as the first: compared by value, streamed."""

from __future__ import annotations

import torch
from blake3 import blake3

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.digest import CHUNK_BYTES, digest_of, same_bytes
from mergenode.adapters.checkpoints.torch_dtypes import TORCH_DTYPES
from mergenode.adapters.checkpoints.weights import WeightFiles
from mergenode.errors import RejectedError, RejectReason


def holds_base_values(weights: WeightFiles, source: str, base: BaseModel, name: str) -> bool:
    """Whether tensor ``source`` holds exactly the values of the base tensor ``name``, maybe in another float type."""
    spec, wanted = weights.specs[source], base.specs[name]
    if spec.shape != wanted.shape or spec.dtype.is_float != wanted.dtype.is_float:
        return False
    hasher = blake3()
    buffer = bytearray(min(CHUNK_BYTES, max(spec.nbytes, 1)))
    for offset in range(0, spec.nbytes, CHUNK_BYTES):
        part = memoryview(buffer)[: min(CHUNK_BYTES, spec.nbytes - offset)]
        weights.read_into(source, offset, part)
        if spec.dtype is wanted.dtype:
            hasher.update(part)
            continue
        stored = torch.frombuffer(buffer, dtype=torch.uint8, count=part.nbytes).view(TORCH_DTYPES[spec.dtype])
        converted = stored.to(TORCH_DTYPES[wanted.dtype])
        if not torch.equal(converted.to(stored.dtype), stored):
            return False  # the conversion loses something, so these are other values
        hasher.update(converted.view(torch.uint8).numpy().tobytes())
    return digest_of(hasher.digest()) == base.tensor_digests[name]


def check_alias(weights: WeightFiles, alias: str, primary: str, primary_source: str | None, base: BaseModel) -> None:
    """A second name of a tied weight must carry the same values as the first.

    Args:
        alias: its name in the contribution.
        primary: the base tensor it is tied to.
        primary_source: that tensor's name in the contribution; None when it is untouched, so the base's values count.

    Raises:
        RejectedError: TIED_WEIGHTS_DIFFER, SHAPE_MISMATCH.
    """
    shown = f"{weights.file_of(alias)}: tensor {alias!r}"
    if weights.specs[alias].shape != base.specs[primary].shape:
        raise RejectedError(
            RejectReason.SHAPE_MISMATCH,
            f"{shown}: has shape {list(weights.specs[alias].shape)}, {primary!r} that it is tied to has "
            f"{list(base.specs[primary].shape)}",
        )
    if primary_source is None:
        same = holds_base_values(weights, alias, base, primary)
    else:
        same_type = weights.specs[alias].dtype is weights.specs[primary_source].dtype
        same = same_type and same_bytes(weights, alias, primary_source)
    if not same:
        raise RejectedError(
            RejectReason.TIED_WEIGHTS_DIFFER,
            f"{shown}: holds other values than {primary!r}; in the base they are one tied weight",
            hint="Fine-tune with tied embeddings, or start the node from a base whose embeddings are untied.",
        )
