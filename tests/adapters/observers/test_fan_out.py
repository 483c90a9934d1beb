"""A broken observer harms nobody."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from mergenode.adapters.http.live import LiveStatus
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.observers.log import LogObserver
from mergenode.adapters.observers.prometheus import PrometheusObserver
from mergenode.ledger.records import Fact
from mergenode.ports.observer import Observer, Progress
from mergenode.types import Listing
from tests.support.observed import HandClock, folded


class Recording:
    """Keeps what it is told; breaks on the call it was made to break on."""

    def __init__(self, breaks_on: str = "") -> None:
        self.told: list[str] = []
        self._breaks_on = breaks_on

    def _hear(self, call: str) -> None:
        self.told.append(call)
        if call == self._breaks_on:
            raise RuntimeError(f"broken on {call}")

    def fact(self, fact: Fact) -> None:
        self._hear("fact")

    def progress(self, progress: Progress) -> None:
        self._hear("progress")

    def listed(self, registry: str, listing: Listing, pending: int) -> None:
        self._hear("listed")

    def listing_failed(self, registry: str, message: str) -> None:
        self._hear("listing_failed")

    def retrying(self, subject: str, reason: str, message: str, delay_seconds: float, hint: str = "") -> None:
        self._hear("retrying")

    def heartbeat(self) -> None:
        self._hear("heartbeat")

    def sizes(self, *, statistics_bytes: int, published_bytes: int, disk_free_bytes: int) -> None:
        self._hear("sizes")

    def message(self, level: str, text: str, **fields: object) -> None:
        self._hear("message")


CALLS: dict[str, Callable[[Observer], None]] = {
    "fact": lambda o: o.fact(folded(1)),
    "progress": lambda o: o.progress(Progress("fold", "team-1", 0, 1, 0, 1)),
    "listed": lambda o: o.listed("inbox", Listing(), 0),
    "listing_failed": lambda o: o.listing_failed("inbox", "timeout"),
    "retrying": lambda o: o.retrying("team-1", "disk_full", "no space", 1.0),
    "heartbeat": lambda o: o.heartbeat(),
    "sizes": lambda o: o.sizes(statistics_bytes=1, published_bytes=2, disk_free_bytes=3),
    "message": lambda o: o.message("info", "hello", who="world"),
}


@pytest.mark.parametrize("breaking", CALLS)
def test_a_broken_observer_is_dropped_and_the_others_hear_everything(
    breaking: str, caplog: pytest.LogCaptureFixture
) -> None:
    before, broken, after = Recording(), Recording(breaking), Recording()
    fan_out = FanOut([before, broken, after])
    with caplog.at_level(logging.ERROR, logger="mergenode.observers"):
        for _ in range(2):
            for call in CALLS.values():
                call(fan_out)
    assert before.told == after.told == [*CALLS, *CALLS]
    assert broken.told == list(CALLS)[: list(CALLS).index(breaking) + 1]
    (record,) = [record for record in caplog.records if record.name == "mergenode.observers"]
    assert "Recording" in record.getMessage() and record.exc_info is not None


def test_the_end_of_the_process_is_not_swallowed() -> None:
    class Stopping(Recording):
        def heartbeat(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FanOut([Stopping()]).heartbeat()


def test_every_real_observer_understands_every_call(caplog: pytest.LogCaptureFixture) -> None:
    clock = HandClock()
    metrics = PrometheusObserver(CollectorRegistry(), ["inbox"], clock)
    fan_out = FanOut([metrics, LogObserver(clock), LiveStatus(clock, ["inbox"]), FanOut([])])
    for call in CALLS.values():
        call(fan_out)
    assert [record for record in caplog.records if record.name == "mergenode.observers"] == []
