"""The ordered pipeline: order, budget, errors. Gates stand in for time: nothing here depends on how fast it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.engines.local.pipeline import Step, run_ordered


def plain_steps(count: int, written: list[int]) -> Iterator[Step]:
    for number in range(count):
        yield Step(1, lambda n=number: n, lambda box: box, written.append)


@settings(max_examples=25, deadline=None)
@given(threads=st.integers(1, 4), budget=st.integers(0, 30), needs=st.lists(st.integers(0, 12), max_size=20))
def test_writes_are_in_order_and_the_budget_holds(threads: int, budget: int, needs: list[int]) -> None:
    """Whatever the threads do, what is between its read and its write never needs more than the budget, or is alone."""
    held, most_steps, written = [0], [0], []
    flying: set[int] = set()
    lock = threading.Lock()

    def read(number: int) -> int:
        with lock:
            flying.add(number)
            held[0] = max(held[0], sum(needs[n] for n in flying) if len(flying) > 1 else 0)
            most_steps[0] = max(most_steps[0], len(flying))
        return number

    def write(number: int) -> None:
        with lock:
            flying.discard(number)
        written.append(number)

    steps = [Step(need, lambda n=n: read(n), lambda box: box, write) for n, need in enumerate(needs)]
    run_ordered(steps, threads=threads, budget_bytes=budget)
    assert written == list(range(len(needs)))
    assert held[0] <= budget
    assert most_steps[0] <= threads + 2


def test_a_later_step_that_is_done_first_waits_for_its_turn() -> None:
    second_done = threading.Event()
    written: list[int] = []

    def first(box: int) -> int:
        assert second_done.wait(30)
        return box

    def second(box: int) -> int:
        second_done.set()
        return box

    computes: list[Callable[[int], int]] = [first, second]
    steps = [Step(1, lambda n=n: n, compute, written.append) for n, compute in enumerate(computes)]
    run_ordered(steps, threads=2, budget_bytes=100)
    assert written == [0, 1]


def test_reading_is_ahead_of_computing() -> None:
    """The first computation ends only after the second step was read."""
    second_read = threading.Event()

    def compute(box: int) -> int:
        assert second_read.wait(30)
        return box

    steps = [
        Step(1, lambda: 0, compute, lambda _: None),
        Step(1, second_read.set, lambda box: box, lambda _: None),
    ]
    run_ordered(steps, threads=1, budget_bytes=100)


def test_reads_are_in_order_by_one_thread() -> None:
    reads: list[tuple[int, int]] = []
    steps = [
        Step(0, lambda n=n: reads.append((n, threading.get_ident())), lambda box: box, lambda _: None)
        for n in range(50)
    ]
    run_ordered(steps, threads=4, budget_bytes=0)
    assert [number for number, _ in reads] == list(range(50))
    assert len({thread for _, thread in reads}) == 1


def test_every_step_computes_with_one_torch_thread() -> None:
    counts: list[int] = []
    steps = [Step(1, lambda: None, lambda _: torch.get_num_threads(), counts.append) for _ in range(8)]
    run_ordered(steps, threads=3, budget_bytes=100)
    assert counts == [1] * 8


@pytest.mark.parametrize("where", ["read", "compute", "write", "steps"])
@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_surfaces_once_and_later_steps_are_not_written(where: str, threads: int) -> None:
    class Broken(Exception):
        pass

    written: list[int] = []
    begun: list[int] = []

    def maybe(stage: str, number: int) -> int:
        if stage == where and number == 5:
            raise Broken(stage)
        return number

    def steps() -> Iterator[Step]:
        for number in range(100):
            begun.append(number)
            maybe("steps", number)
            yield Step(
                1,
                lambda n=number: maybe("read", n),
                lambda n: maybe("compute", n),
                lambda n: written.append(maybe("write", n)),
            )

    alive = threading.active_count()
    with pytest.raises(Broken, match=where):
        run_ordered(steps(), threads=threads, budget_bytes=1000)
    assert written == list(range(len(written))) and len(written) <= 5
    assert len(begun) <= 5 + threads + 2 + 1
    assert threading.active_count() == alive


def test_the_first_of_two_errors_is_told() -> None:
    def fail(text: str) -> Callable[[Any], None]:
        def compute(_: Any) -> None:
            raise ValueError(text)

        return compute

    steps = [Step(1, lambda: None, fail(text), lambda _: None) for text in ("first", "second", "third")]
    with pytest.raises(ValueError, match="first"):
        run_ordered(steps, threads=3, budget_bytes=100)


def test_a_step_beyond_the_budget_runs_alone() -> None:
    written: list[int] = []
    run_ordered(plain_steps(5, written), threads=4, budget_bytes=0)
    assert written == [0, 1, 2, 3, 4]
    run_ordered([], threads=2, budget_bytes=0)
