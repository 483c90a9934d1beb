"""Signals become two questions; waiting ends when there is something to look at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mergenode.daemon.lifecycle import Lifecycle
from tests.support.clock import FakeClock

FOREVER = 60.0
"""A wait that nothing ends would fail the test by its time limit, not by an assertion about time."""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def lifecycle(clock: FakeClock) -> Iterator[Lifecycle]:
    lifecycle = Lifecycle(clock, drain_seconds=10.0)
    yield lifecycle
    lifecycle.close()


def test_asked_once_the_work_in_hand_has_its_time(lifecycle: Lifecycle, clock: FakeClock) -> None:
    assert not lifecycle.draining and not lifecycle.abandon()
    lifecycle.request_stop()
    assert lifecycle.draining and not lifecycle.abandon()
    clock.advance(9.9)
    assert not lifecycle.abandon()
    clock.advance(0.1)
    assert lifecycle.abandon()


def test_asked_twice_it_ends_now(lifecycle: Lifecycle) -> None:
    lifecycle.request_stop()
    lifecycle.request_stop()
    assert lifecycle.abandon()


def test_without_patience_the_first_request_ends_it(clock: FakeClock) -> None:
    lifecycle = Lifecycle(clock, drain_seconds=0.0)
    lifecycle.request_stop()
    assert lifecycle.abandon()
    lifecycle.close()


def test_whoever_wants_to_know_of_a_stop_is_told(clock: FakeClock) -> None:
    told: list[bool] = []
    lifecycle = Lifecycle(clock, drain_seconds=1.0, on_stop=lambda: told.append(lifecycle.draining))
    lifecycle.request_stop()
    assert told == [True]
    lifecycle.close()


def test_a_poke_before_the_wait_is_not_lost_and_counts_once(lifecycle: Lifecycle) -> None:
    for _ in range(3):
        lifecycle.poke()
    assert lifecycle.wait(FOREVER)
    assert not lifecycle.wait(0.0)


def test_pokes_without_end_never_block(lifecycle: Lifecycle) -> None:
    for _ in range(100_000):
        lifecycle.poke()
    assert lifecycle.wait(FOREVER)
    assert not lifecycle.wait(0.0)


def test_a_poke_from_a_thread_ends_the_wait(lifecycle: Lifecycle) -> None:
    thread = threading.Timer(0.05, lifecycle.poke)
    thread.start()
    assert lifecycle.wait(FOREVER)
    thread.join()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop_and_ends_the_wait(lifecycle: Lifecycle, number: int) -> None:
    with lifecycle.signals():
        thread = threading.Timer(0.05, os.kill, (os.getpid(), number))
        thread.start()
        assert lifecycle.wait(FOREVER)
        thread.join()
        assert lifecycle.draining and not lifecycle.abandon()
        os.kill(os.getpid(), number)
        assert lifecycle.abandon()


def test_sighup_wakes_and_stops_nothing(lifecycle: Lifecycle) -> None:
    with lifecycle.signals():
        os.kill(os.getpid(), signal.SIGHUP)
        assert lifecycle.wait(FOREVER)
    assert not lifecycle.draining


def test_sighup_is_passed_on(clock: FakeClock) -> None:
    told: list[bool] = []
    lifecycle = Lifecycle(clock, drain_seconds=1.0, on_hangup=lambda: told.append(True))
    with lifecycle.signals():
        os.kill(os.getpid(), signal.SIGHUP)
    assert told == [True]
    lifecycle.close()


def test_earlier_handlers_come_back(lifecycle: Lifecycle) -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(ZeroDivisionError), lifecycle.signals():
        assert [signal.getsignal(number) for number in numbers] != before
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in numbers] == before


def test_descriptors_are_given_back(clock: FakeClock) -> None:
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    for _ in range(50):
        Lifecycle(clock, drain_seconds=1.0).close()
    assert len(list(descriptors.iterdir())) == before


PROGRAM = """
import os, signal, sys
from mergenode.adapters.clock import SystemClock
from mergenode.daemon.lifecycle import Lifecycle
lifecycle = Lifecycle(SystemClock(), drain_seconds=1000.0)
with lifecycle.signals():
    print("ready", flush=True)
    while not lifecycle.draining:
        lifecycle.wait(60)
    print("draining", flush=True)
    work = 0
    while not lifecycle.abandon():
        work += 1  # computes, and never waits
    print("abandoned", flush=True)
"""


def test_a_second_sigterm_ends_work_that_never_waits() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    with process, process.stdout:
        for expected in ("ready", "draining"):
            assert process.stdout.readline().strip() == expected
            process.send_signal(signal.SIGTERM)
        assert process.stdout.readline().strip() == "abandoned"
        assert process.wait(60) == 0
