"""One thread per computation: sums then do not depend on how many processors a machine has.

torch, scipy and numpy each bring thread pools of their own (OpenMP, MKL, two copies of OpenBLAS). A sum that two
threads share is rounded differently, and the variants that follow single singular vectors show it in their bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

import torch
from threadpoolctl import threadpool_limits


class _PoolLimits:
    """Limits of the process, shared by all blocks: kept until the last one ends, whatever their order."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._blocks = 0
        self._restoring = ExitStack()

    def enter(self) -> None:
        with self._lock:
            if self._blocks == 0:
                # Asked before anything is limited: torch answers with the limit of OpenMP.
                self._restoring.callback(torch.set_num_threads, torch.get_num_threads())
            # Every block looks again: it may have been a later import that brought a library.
            self._restoring.enter_context(threadpool_limits(limits=1))
            torch.set_num_threads(1)
            self._blocks += 1

    def leave(self) -> None:
        with self._lock:
            self._blocks -= 1
            if self._blocks == 0:
                self._restoring.close()


_LIMITS = _PoolLimits()


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside the block every call into torch, BLAS or OpenMP computes with its calling thread alone.

    Holds for threads that are started inside the block and for libraries that are loaded when it begins. The limits
    belong to the process: blocks may be nested and may overlap in several threads, the numbers from before the first
    come back when the last one ends. Costs about 2 ms.
    """
    _LIMITS.enter()
    try:
        yield
    finally:
        _LIMITS.leave()
