"""Independent coin flips for the elements of a tensor, drawn from a key: the same on every machine, in every slice.

Counter-based (Salmon et al. 2011): the flip of element i is a hash of the key and i, so nothing has to be stored to
draw it again. Elements are numbered in blocks; each block has its own 64 bits of key.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 1 << 17
"""Elements that share one block key."""

_ODD = (0xED5AD4BB, 0xAC4C1B51, 0x31848BAB)
_SHIFTS = (17, 11, 15)
_LAST_SHIFT = 14


def random_mask(key: bytes, block: int, size: int, share: float) -> Tensor:
    """True with probability ``share`` for each of the first ``size`` elements of a block: (size,), bool, on the CPU.

    The probability is exact to 2^-32. Allocates 12 bytes per element.

    Raises:
        ValueError: size above ``BLOCK``, or share outside [0, 1].
    """
    if not 0 <= size <= BLOCK or not 0.0 <= share <= 1.0:
        raise ValueError(f"no mask of {size} elements with share {share}")
    digest = hashlib.blake2b(block.to_bytes(8, "little"), key=hashlib.blake2b(key, digest_size=32).digest())
    first, second = np.frombuffer(digest.digest()[:8], dtype="<u4")
    numbers = mixed(np.arange(size, dtype=np.uint32) ^ first)
    limit = round(share * 2**32)
    if limit == 2**32:
        return torch.ones(size, dtype=torch.bool)
    return torch.from_numpy((numbers ^ second) < np.uint32(limit))


def mixed(numbers: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """A bijection of 32-bit numbers under which each input bit flips every output bit half of the time.

    In place. Three rounds of xor-shift and multiplication; the constants are those of triple32, from C. Wellons'
    search for integer hashes of low bias.
    """
    scratch = np.empty_like(numbers)
    for shift, odd in zip(_SHIFTS, _ODD, strict=True):
        np.right_shift(numbers, shift, out=scratch)
        numbers ^= scratch
        numbers *= np.uint32(odd)
    np.right_shift(numbers, _LAST_SHIFT, out=scratch)
    numbers ^= scratch
    return numbers
