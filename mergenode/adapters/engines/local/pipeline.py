"""An ordered, bounded pipeline: read ahead, compute in threads, write in order.

One thread reads, ``threads`` compute, the caller writes. Results are written in the order of the steps, whatever
finishes first, and every step computes with one thread of its own: so the bytes do not depend on the thread count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import torch


class Step(NamedTuple):
    """One piece of work. ``read`` fills a box, ``compute`` takes out of it what it no longer needs."""

    need_bytes: int
    read: Callable[[], Any]
    compute: Callable[[Any], Any]
    write: Callable[[Any], None]


def _one_torch_thread() -> None:
    torch.set_num_threads(1)


def run_ordered(steps: Iterable[Step], *, threads: int, budget_bytes: int) -> None:
    """Run all steps, holding at most ``budget_bytes`` of declared needs in flight (always at least one step).

    Raises whatever a step raises; steps in flight are finished or cancelled first, later ones never start.
    """
    window = threads + 2
    flying: deque[tuple[Step, Future[Any]]] = deque()
    held = 0

    def land() -> int:
        step, future = flying.popleft()
        step.write(future.result())
        return step.need_bytes

    with (
        ThreadPoolExecutor(1, thread_name_prefix="read", initializer=_one_torch_thread) as reader,
        ThreadPoolExecutor(threads, thread_name_prefix="compute", initializer=_one_torch_thread) as computer,
    ):
        try:
            for step in steps:
                while flying and (len(flying) >= window or held + step.need_bytes > budget_bytes):
                    held -= land()
                box = reader.submit(step.read)
                flying.append((step, computer.submit(lambda box, compute: compute(box.result()), box, step.compute)))
                held += step.need_bytes
            while flying:
                held -= land()
        finally:
            for _, future in flying:
                future.cancel()
