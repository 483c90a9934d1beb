"""What a command may use, from the texts of its options."""

from __future__ import annotations

import os

from mergenode.errors import UsageError


def memory_limit(text: str) -> int:
    """``--memory-limit`` in bytes. Raises UsageError."""
    from mergenode.sizes import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise UsageError(f"--memory-limit {text!r}: {error}") from error


def thread_count(text: str) -> int:
    """``--threads``; ``auto``: the processors this process may use. Raises UsageError."""
    if text == "auto":
        return len(os.sched_getaffinity(0))
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise UsageError(f"--threads {text!r} is neither auto nor a number from 1 on")
    return int(text)
