"""Blocks: tensor-aligned pieces of weights, known by what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NewType

from blake3 import blake3

BLOCK_BYTES = 8 << 20
"""Longest block. A multiple of every element size, so no element lies in two blocks. Never changes within a version
of the protocol: both ends derive block borders from shapes."""

ID_BYTES = 32

BlockId = NewType("BlockId", bytes)
"""BLAKE3-256 of the block's bytes."""

Root = NewType("Root", bytes)
"""BLAKE3-256 of a manifest's canonical bytes."""


def block_id(data: bytes | memoryview) -> BlockId:
    """The id of a block, from its bytes."""
    return BlockId(blake3(data).digest())


def block_count(nbytes: int) -> int:
    """Blocks of a tensor of ``nbytes``; an empty tensor has none."""
    return -(-nbytes // BLOCK_BYTES)


def block_lengths(nbytes: int) -> Iterator[int]:
    """Lengths in bytes of the blocks of a tensor, in order: all but the last are ``BLOCK_BYTES``."""
    return (min(BLOCK_BYTES, nbytes - first) for first in range(0, nbytes, BLOCK_BYTES))
