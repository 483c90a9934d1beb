"""Back-off per slot."""

from __future__ import annotations

from mergenode.daemon.patience import NODE, PUBLISH, Patience
from tests.support.clock import FakeClock

KEY = ("inbox", "a", "r1")


def test_delays_double_and_run_down() -> None:
    clock = FakeClock()
    patience = Patience(clock=clock, jitter=lambda: 0.0)
    assert [patience.failed(KEY, "read_failed") for _ in range(4)] == [0.5, 1.0, 2.0, 4.0]
    clock.advance(1.0)
    assert patience.waiting() == {KEY: 3.0} and patience.left(KEY) == 3.0
    clock.advance(3.0)
    assert patience.waiting() == {} and patience.left(KEY) == 0.0
    assert patience.failed(KEY, "read_failed") == 8.0, "failures in a row count on when the wait is over"


def test_a_success_ends_the_row_for_the_slot_and_the_node() -> None:
    patience = Patience(clock=FakeClock(), jitter=lambda: 0.0)
    for slot in (KEY, NODE, PUBLISH):
        patience.failed(slot, "read_failed")
    patience.succeeded(KEY)
    assert (patience.left(KEY), patience.left(NODE), patience.left(PUBLISH)) == (0.0, 0.0, 0.5)


def test_what_is_not_listed_any_more_is_forgotten() -> None:
    patience = Patience(clock=FakeClock(), jitter=lambda: 0.0)
    for number in range(50):
        patience.failed(("inbox", f"m{number}", "r1"), "read_failed")
    patience.failed(NODE, "read_failed")
    patience.keep_only({("inbox", "m7", "r1")})
    assert set(patience.waiting()) == {("inbox", "m7", "r1")}
    assert len(patience) == 2


def test_a_full_disk_is_never_waited_for_long_and_other_failures_go_on_from_there() -> None:
    patience = Patience(clock=FakeClock(), jitter=lambda: 1.0)
    assert [patience.failed(NODE, "disk_full") for _ in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert [patience.failed(NODE, "write_failed") for _ in range(3)] == [64, 128, 256]
    assert patience.failed(NODE, "disk_full") == 30


def test_a_long_row_of_full_disks_does_not_make_another_failure_wait_long() -> None:
    patience = Patience(clock=FakeClock(), jitter=lambda: 1.0)
    for _ in range(1000):
        patience.failed(PUBLISH, "disk_full")
    assert patience.failed(PUBLISH, "write_failed") == 64
