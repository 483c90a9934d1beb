"""Independent coin flips for the elements of a tensor, drawn from a key: the same on every machine, in every slice.

Nothing has to be stored to draw a flip again: it is read from the output stream of BLAKE3 (O'Connor et al. 2020),
keyed by the tensor and the number of the block that the element is in. One byte decides, four more where it falls on
the edge between both outcomes.
"""

from __future__ import annotations

import numpy as np
import torch
from blake3 import blake3
from torch import Tensor

BLOCK = 1 << 17
"""Elements that share one stream."""

_EDGE_STEPS = 1 << 32


def random_mask(key: bytes, block: int, size: int, share: float, start: int = 0) -> Tensor:
    """1 with probability ``share``, else 0, for ``size`` elements of a block from ``start`` on: (size,), uint8, CPU.

    The probability is exact to 2^-40. Allocates 2 bytes per element of the block up to the last one asked for.

    Raises:
        ValueError: elements beyond ``BLOCK``, or share outside [0, 1].
    """
    if not 0 <= start <= start + size <= BLOCK or not 0.0 <= share <= 1.0:
        raise ValueError(f"no mask of {size} elements from {start} on with share {share}")
    stream = blake3(block.to_bytes(8, "little"), key=blake3(key).digest())
    edge, rest = divmod(round(share * 256 * _EDGE_STEPS), _EDGE_STEPS)
    if edge == 256:
        return torch.ones(size, dtype=torch.uint8)
    if rest and start:  # how many bytes before are on the edge is known only when they are drawn
        return random_mask(key, block, start + size, share)[start:]
    found = stream.digest(length=size, seek=start) if size else b""
    drawn = np.frombuffer(found, dtype=np.uint8)
    mask = drawn < np.uint8(edge)
    if rest:
        # The n-th byte on the edge takes the n-th number of what follows: a shorter mask stays a prefix.
        undecided = np.flatnonzero(drawn == np.uint8(edge))
        further = stream.digest(length=4 * len(undecided), seek=BLOCK) if len(undecided) else b""
        mask[undecided] = np.frombuffer(further, dtype="<u4") < np.uint32(rest)
    return torch.from_numpy(mask.view(np.uint8))
