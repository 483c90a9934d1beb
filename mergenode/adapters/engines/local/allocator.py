"""How the C library keeps memory that was freed: enough to reuse it, not enough to break the memory promise."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_KEEP_BYTES = 64 << 20
_RETURN_BYTES = 32 << 20
"""Buffers from this size on are returned to the system when freed; it is also the largest value glibc accepts."""


def tune_allocator() -> bool:
    """Make every thread share one heap that keeps up to 64 MiB of freed memory for the next slice.

    By default each thread has a heap of its own and gives memory back after every large buffer, to fault it in again
    a moment later: measured, half of the system time of a merge. Returns False where the C library is not glibc;
    nothing but speed is lost then. Idempotent.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, _RETURN_BYTES), (_M_TRIM_THRESHOLD, _KEEP_BYTES))
    return all([mallopt(option, value) for option, value in settings])


def return_freed_memory() -> bool:
    """Give memory that was freed, but kept for reuse, back to the system. Returns False where there is no such call."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return False
    return bool(trim(0))
