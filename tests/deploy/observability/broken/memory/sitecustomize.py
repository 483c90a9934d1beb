"""A node whose memory flips one bit of the first block that it sends, after it was read and checked."""

from __future__ import annotations

from typing import Any

from mergenode.adapters.peers.weights import block_serving

_encode = block_serving.encode_block
_flips = [1]
"""What is XORed to the first bytes of the next blocks."""


def encode_block(raw: bytes, *rest: Any) -> Any:
    flipped = raw[0] ^ _flips.pop() if _flips else raw[0]
    return _encode(bytes([flipped]) + raw[1:], *rest)


block_serving.encode_block = encode_block
