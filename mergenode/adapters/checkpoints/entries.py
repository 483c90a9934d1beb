"""What a contribution says about one tensor of the base."""

from __future__ import annotations

from typing import NamedTuple

from mergenode.types import TensorSpec


class Dense(NamedTuple):
    """The tuned weights themselves."""

    source: str
    """Name inside the contribution's files."""
    spec: TensorSpec
    """As the contribution stores it: same shape as the base tensor, maybe another float type."""


class LowRank(NamedTuple):
    """``delta.reshape(shape[0], prod(shape[1:])) = scale * L @ R`` with the factors of a LoRA adapter.

    ``L`` and ``R`` are the tensors ``left`` and ``right``, first flattened to two dimensions by joining all but the
    first one (convolutions), then transposed where told.
    """

    left: str
    left_transposed: bool
    right: str
    right_transposed: bool
    scale: float
    rank: int


class Additive(NamedTuple):
    """``delta = scale * source``: a trained addition to a bias (``lora_bias``)."""

    source: str
    spec: TensorSpec
    scale: float


Entry = Dense | LowRank | Additive
