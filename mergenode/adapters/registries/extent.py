"""How many bytes a safetensors file says it has: enough to tell that one is still growing.

The header is scanned in pieces, never parsed, so that a listing costs the same few kilobytes of memory
whatever a header claims. What is wrong with a complete file is the validation's to say.
"""

from __future__ import annotations

import os
import re

_LENGTH_BYTES = 8
_PIECE_BYTES = 1 << 20
_OVERLAP_BYTES = 512
"""Carried from piece to piece, longer than any offsets entry."""

_OFFSETS = re.compile(rb'"data_offsets"\s{0,64}:\s{0,64}\[\s{0,64}\d{1,20}\s{0,64},\s{0,64}(\d{1,20})\s{0,64}\]')


def declared_bytes(fd: int, size: int, header_cap: int) -> int | None:
    """Bytes that an open safetensors file of ``size`` bytes declares to have.

    A lower bound when not even the header is there; None when the file cannot be one, so that waiting is
    pointless. Raises OSError.
    """
    if size < _LENGTH_BYTES:
        return _LENGTH_BYTES
    header_bytes = int.from_bytes(os.pread(fd, _LENGTH_BYTES, 0), "little")
    if not 2 <= header_bytes <= header_cap:
        return None
    data_start = _LENGTH_BYTES + header_bytes
    if size < data_start:
        return data_start if _opens_like_header(fd, size) else None
    end = 0
    carried = b""
    for offset in range(_LENGTH_BYTES, data_start, _PIECE_BYTES):
        piece = carried + os.pread(fd, min(_PIECE_BYTES, data_start - offset), offset)
        end = max(end, max((int(match[1]) for match in _OFFSETS.finditer(piece)), default=0))
        carried = piece[-_OVERLAP_BYTES:]
    return data_start + end


def _opens_like_header(fd: int, size: int) -> bool:
    """A header opens with a brace; zeros, allocated but not written yet, may still become one."""
    return size == _LENGTH_BYTES or os.pread(fd, 1, _LENGTH_BYTES) in (b"{", b"\0", b"")
