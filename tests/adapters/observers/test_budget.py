"""However much goes wrong, the log stays small, says the first of everything in full, and counts the rest."""

from __future__ import annotations

import io
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.observers.budget import MOST_KINDS, OTHER, WINDOW_SECONDS, LineBudget, shape
from mergenode.adapters.observers.log import MOST_NEWS, MOST_WARNINGS, LogObserver, configure_logging
from mergenode.adapters.observers.repeats import FORGOTTEN, RepeatLimit
from tests.support.observed import HandClock, folded, rejected

STEPS = st.lists(st.tuples(st.sampled_from([0.0, 0.01, 1.0, 7.0, 61.0]), st.integers(0, 5)), max_size=300)


@pytest.fixture(autouse=True)
def logger_as_it_was() -> Iterator[None]:
    logger = logging.getLogger("mergenode")
    before = (list(logger.handlers), logger.level, logger.propagate)
    yield
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


@settings(deadline=None)
@given(steps=STEPS, most=st.integers(1, 4))
def test_in_no_window_are_more_lines_of_a_kind_than_allowed_and_every_line_is_written_or_counted(
    steps: list[tuple[float, int]], most: int
) -> None:
    clock, written, counted = HandClock(), defaultdict[str, list[float]](list), Counter[str]()
    budget, offered = LineBudget(clock.monotonic, most), Counter[str]()
    first: dict[str, bool] = {}
    for pause, number in steps:
        clock.advance(pause)
        for kind, held in budget.owed():
            written[kind].append(clock.monotonic())
            counted[kind] += held
        kind = f"kind {number}"
        offered[kind] += 1
        held_back = budget.admit(kind)
        first.setdefault(kind, held_back is not None)
        if held_back is not None:
            written[kind].append(clock.monotonic())
            counted[kind] += held_back + 1
    clock.advance(WINDOW_SECONDS)
    counted.update(dict(budget.owed()))
    assert counted == offered and all(first.values())
    for times in written.values():
        assert all(sum(start <= time < start + WINDOW_SECONDS for time in times) <= most for start in times)


def test_kinds_without_end_share_one_budget_and_quiet_ones_are_forgotten() -> None:
    clock = HandClock()
    budget = LineBudget(clock.monotonic, 2)
    told = [budget.admit(f"kind {number}") for number in range(10 * MOST_KINDS)]
    assert sum(held is not None for held in told) == MOST_KINDS + 2
    clock.advance(WINDOW_SECONDS)
    assert budget.owed() == [(OTHER, 9 * MOST_KINDS - 2)]
    assert budget.admit("new") == 0


def test_the_same_fault_of_a_thousand_files_is_one_kind() -> None:
    assert len({shape(f"'file {number}' cannot be read: /x/{number}: error 5") for number in range(1000)}) == 1
    assert shape("the disk is full") != shape("the ledger is damaged")
    assert len(shape("long " * 10_000)) <= 60


def opened(clock: HandClock) -> tuple[LogObserver, io.StringIO]:
    stream = io.StringIO()
    configure_logging("json", "info", stream)
    return LogObserver(clock), stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_thousand_bad_files_are_twenty_lines_and_a_count() -> None:
    clock = HandClock()
    log, stream = opened(clock)
    for number in range(1000):
        log.fact(rejected(f"file {number}", message=f"file {number} is broken"))
        clock.advance(0.01)
        log.heartbeat()
    log.fact(rejected("odd", reason="not_finite", message="NaN"))
    log.fact(folded(1))
    clock.advance(WINDOW_SECONDS)
    log.heartbeat()
    told = lines(stream)
    assert Counter(entry["event"] for entry in told) == {"rejected": MOST_WARNINGS + 1, "folded": 1, "left_out": 1}
    assert told[0]["message"].startswith("rejected 'file 0': file 0 is broken")
    assert told[-1]["fields"] == {"kind": "rejected shape_mismatch", "left_out": 1000 - MOST_WARNINGS}
    assert [entry["fields"]["reason"] for entry in told if entry["fields"].get("name") == "odd"] == ["not_finite"]


@settings(deadline=None, max_examples=25)
@given(
    storm=st.lists(
        st.tuples(st.sampled_from(["registry", "disk", "peer", "file", "odd"]), st.floats(0, 3)), max_size=400
    )
)
def test_no_storm_writes_more_than_its_kinds_allow(storm: list[tuple[str, float]]) -> None:
    clock, at = HandClock(), list[float]()
    log, stream = opened(clock)
    for number, (fault, pause) in enumerate(storm):
        clock.advance(pause)
        match fault:
            case "registry":
                log.listing_failed("bucket", f"request {number} timed out")
            case "disk":
                log.retrying(f"m{number}", "disk_full", "no space left", 1.0)
            case "peer":
                log.message("warning", f"{number} sends what no honest node sends")
            case "file":
                log.fact(rejected(f"m{number}"))
            case "odd":
                log.message("error", "strange")
        log.heartbeat()
        at += [clock.monotonic()] * (len(lines(stream)) - len(at))
    told = lines(stream)
    kinds = {(entry["event"], entry["fields"].get("kind")) for entry in told}
    for start in at:
        inside = sum(start <= time < start + WINDOW_SECONDS for time in at)
        assert inside <= MOST_WARNINGS * max(1, len(kinds)) < MOST_NEWS
    left_out = sum(entry["fields"].get("left_out", 0) + entry["fields"].get("suppressed", 0) for entry in told)
    assert left_out + len(told) <= len(storm) + sum(entry["event"] in ("left_out", "repeated") for entry in told)


def test_what_no_room_was_for_is_counted_too() -> None:
    clock = HandClock()
    repeats = RepeatLimit(clock.monotonic, capacity=2)
    for key in ("a", "a", "a", "b", "c"):
        repeats.admit(key)
    clock.advance(61)
    assert repeats.expired() == [(FORGOTTEN, 2)]


def test_words_of_others_do_not_use_up_what_faults_may_write() -> None:
    clock = HandClock()
    log, stream = opened(clock)
    for number in range(10_000):
        word = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        log.message("warning", f"{word} is what somebody said")
    log.retrying("m1", "disk_full", "no space left", 1.0)
    told = lines(stream)
    assert told[-1]["event"] == "retrying" and len(told) <= MOST_KINDS + MOST_WARNINGS + 1
