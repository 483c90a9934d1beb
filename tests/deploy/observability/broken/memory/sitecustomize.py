"""A node whose memory flips a bit of every seventh block that it sends, after it was read and checked."""

from __future__ import annotations

from itertools import cycle
from typing import Any

from mergenode.adapters.peers.weights import block_serving

_encode = block_serving.encode_block
_flips = cycle((1, 0, 0, 0, 0, 0, 0))
"""What is XORed to the first bytes of the next blocks."""


def encode_block(raw: bytes, *rest: Any) -> Any:
    flipped = raw[0] ^ next(_flips)
    return _encode(bytes([flipped]) + raw[1:], *rest)


block_serving.encode_block = encode_block
