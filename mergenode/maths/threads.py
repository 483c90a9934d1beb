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


class _BlasLimits:
    """Limits of BLAS belong to the process: kept until the last of all blocks ends, whatever their order."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._blocks = 0
        self._restoring = ExitStack()

    def enter(self) -> None:
        with self._lock:
            # Every block looks again: it may have been a later import that brought a library.
            self._restoring.enter_context(threadpool_limits(limits=1, user_api="blas"))
            self._blocks += 1

    def leave(self) -> None:
        with self._lock:
            self._blocks -= 1
            if self._blocks == 0:
                self._restoring.close()


_BLAS = _BlasLimits()


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside the block every call into torch, BLAS or OpenMP computes with its calling thread alone.

    Holds for threads that are started inside the block and for libraries that are loaded when it begins. Blocks may be
    nested and may overlap in several threads: the numbers from before come back, those of BLAS when the last block
    ends, those of torch and OpenMP, which belong to a thread, when its own ends. Costs about 2 ms.
    """
    # Asked before anything is limited: torch answers with the limit of OpenMP.
    before = torch.get_num_threads()
    with threadpool_limits(limits=1, user_api="openmp"):
        _BLAS.enter()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
            _BLAS.leave()
