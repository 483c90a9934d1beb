"""The log as an operator and a log store read it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.observers.log import LogObserver, configure_logging
from mergenode.errors import UsageError
from mergenode.ledger.records import KINDS, Admitted, Discovered, Fact, Pruned, Restated, Retracted
from mergenode.ledger.traces import trace_of
from mergenode.ports.observer import Progress
from mergenode.tracing.context import at, called_from, within
from mergenode.tracing.ids import first_span
from mergenode.types import Listing
from tests.support import facts
from tests.support.facts import deferred, deselected, forgotten, heard, mixed, ruled, selected, united, yielded
from tests.support.observed import TIME, HandClock, content, duplicate, folded, initialised, published, rejected

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=30)
FACTS: list[Fact] = [
    initialised(),
    Discovered(time=TIME, registry="inbox", name="team-1", revision="r1", location="/inbox/team-1"),
    rejected(),
    duplicate(),
    folded(1, warnings=("adapter has no bias",)),
    facts.quarantined(2),
    facts.released(2),
    facts.scored(),
    published(1),
    Pruned(time=TIME, versions=(1, 2)),
    mixed(1, refused=()),
    Retracted(time=TIME, registry="inbox", name="team-1", revision="r1", content=content(1), why="asked"),
    Admitted(
        time=TIME, registry="inbox", name="team-2", revision="r1", origin="b2", location="/other/team-2",
        content=content(2), contribution_kind="full", weight=1.0, norm=1.0, relative_norm=0.1,
    ),
    Restated(
        time=TIME, generation=2, count=1, totals={}, statistics=content(9), lineage=None, how="combined", rollback_to=1,
    ),
    yielded(), deferred(), united(2, 1), heard(), ruled(), forgotten(), selected(m1=0.5),
    deselected(),
]  # fmt: skip


@pytest.fixture(autouse=True)
def logger_as_it_was() -> Iterator[None]:
    logger = logging.getLogger("mergenode")
    before = (list(logger.handlers), logger.level, logger.propagate)
    yield
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def opened(format: str, level: str, clock: HandClock) -> tuple[LogObserver, io.StringIO]:
    stream = io.StringIO()
    configure_logging(format, level, stream)
    return LogObserver(clock), stream


def entries(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_kind_of_fact_is_one_line_with_its_own_sentence(clock: HandClock) -> None:
    assert {fact.kind for fact in FACTS} == set(KINDS)
    log, stream = opened("json", "debug", clock)
    for fact in FACTS:
        log.fact(fact)
    seen = entries(stream)
    assert [entry["event"] for entry in seen] == [fact.kind for fact in FACTS]
    assert all(entry["message"] != entry["event"] for entry in seen)
    warned = ("rejected", "retracted", "ruled", "forgotten", "quarantined", "released")
    assert [entry["level"] for entry in seen] == ["warning" if f.kind in warned else "info" for f in FACTS]


def test_a_json_line_has_time_level_event_and_fields(clock: HandClock) -> None:
    log, stream = opened("json", "info", clock)
    log.fact(folded(3, relative_norm=float("nan")))
    (entry,) = entries(stream)
    assert set(entry) == {"ts", "level", "event", "message", "fields", "trace_id", "span_id"}
    assert entry["trace_id"] == trace_of(folded(3)) and entry["span_id"] == first_span(entry["trace_id"])
    assert datetime.fromisoformat(str(entry["ts"])).utcoffset() is not None
    fields = entry["fields"]
    assert isinstance(fields, dict)
    assert (fields["name"], fields["generation"], fields["relative_norm"]) == ("team-3", 3, "nan")
    assert "50.0% of it kept" in str(entry["message"])


def test_a_console_line_reads_well(clock: HandClock) -> None:
    log, stream = opened("console", "info", clock)
    log.fact(rejected("team one"))
    line = stream.getvalue()
    assert "WARNING rejected       rejected 'team one': tensor w is 2x3, base has 3x2" in line
    assert 'name="team one"' in line and "reason=shape_mismatch" in line


def test_a_line_says_what_it_is_about_and_who_asked(clock: HandClock) -> None:
    def tell(format: str) -> str:
        log, stream = opened(format, "info", clock)
        log.fact(rejected())
        with within(at("a" * 32, links=("b" * 32,))):
            log.retrying("v000001", "disk_full", f"full {format}", 1.0)
            called_from(at("c" * 32))
            log.message("info", "from elsewhere")
        called_from(None)
        log.message("info", "of the node itself")
        return stream.getvalue()

    told = [json.loads(line) for line in tell("json").splitlines()]
    own = trace_of(rejected())
    assert [line.get("trace_id") for line in told] == [own, "a" * 32, "a" * 32, None]
    assert told[1]["span_id"] == "a" * 16 and told[1]["trace_links"] == ["b" * 32]
    assert [line.get("caller_trace_id") for line in told] == [None, None, "c" * 32, None]
    first, second, third, last = tell("console").splitlines()
    assert first.endswith(f" trace={own[:8]}") and second.endswith(" trace=aaaaaaaa")
    assert third.endswith(" trace=aaaaaaaa caller_trace=cccccccc") and "trace=" not in last


@pytest.mark.parametrize("format", ["console", "json"])
@settings(deadline=None, max_examples=60)
@given(name=ANY_TEXT, message=ANY_TEXT, key=ANY_TEXT)
def test_no_text_can_end_or_forge_a_line(format: str, name: str, message: str, key: str) -> None:
    log, stream = opened(format, "debug", HandClock())
    log.fact(rejected(name, message=message))
    log.message("error", message, **{f"k{key}": name})
    text = stream.getvalue()
    assert text.count("\n") == 2 == len(text.splitlines())
    assert text.replace("\n", "").isprintable()
    text.encode("utf-8")
    if format == "json":
        first, second = entries(stream)
        assert isinstance(first["fields"], dict) and first["fields"]["name"] == name
        assert isinstance(second["fields"], dict) and second["fields"][f"k{key}"] == name


def test_a_forged_line_stays_inside_its_own(clock: HandClock) -> None:
    log, stream = opened("console", "info", clock)
    log.message("info", "done\n2026-01-02T03:04:05.000Z INFO    folded         folded 'evil'\x1b[2J")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\\n2026" in stream.getvalue() and "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("format", ["console", "json"])
def test_credentials_are_not_logged(clock: HandClock, format: str) -> None:
    log, stream = opened(format, "debug", clock)
    log.listing_failed("bucket", "GET s3://user:hunter2@store/x?X-Amz-Signature=hunter2&part=1 failed")
    log.message("info", "base", location="https://user:hunter2@store/x?token=hunter2")
    assert "hunter2" not in stream.getvalue()
    assert "store/x" in stream.getvalue()


def test_progress_comes_every_ten_seconds(clock: HandClock) -> None:
    log, stream = opened("json", "info", clock)
    for done in range(0, 61):
        log.progress(Progress("fold", "team-1", done, 60, done, 60))
        clock.advance(0.5)
    assert [entry["fields"]["bytes_done"] for entry in entries(stream)] == [20, 40, 60]


def test_work_that_ends_within_ten_seconds_is_told_by_its_fact_alone(clock: HandClock) -> None:
    log, stream = opened("json", "info", clock)
    for number in range(20):
        log.progress(Progress("fold", f"team-{number}", 0, 1, 0, 10))
        log.progress(Progress("publish", f"v{number}", 0, 1, 0, 10))
        clock.advance(5)
    log.progress(Progress("publish", "v19", 0, 1, 5, 10, waits_for="disk"))
    clock.advance(5)
    log.progress(Progress("publish", "v19", 0, 1, 5, 10, waits_for="disk"))
    assert [entry["message"] for entry in entries(stream)] == ["publish of 'v19': 50%"]


def test_identical_warnings_come_once_a_minute_with_the_number_held_back(clock: HandClock) -> None:
    log, stream = opened("json", "info", clock)
    for _ in range(50):
        log.listing_failed("bucket", "timeout")
        log.retrying("team-1", "disk_full", "no space left", clock.seconds)
        clock.advance(1)
    clock.advance(60)
    log.listing_failed("bucket", "timeout")
    seen = [(entry["event"], entry["fields"].get("suppressed")) for entry in entries(stream)]
    assert seen == [("listing_failed", None), ("retrying", None), ("listing_failed", 49)]


@pytest.mark.parametrize("hint", ["", "Free some space."])
def test_a_retry_tells_what_would_help(clock: HandClock, hint: str) -> None:
    log, stream = opened("json", "info", clock)
    log.retrying("team-1", "disk_full", "no space left", 2.0, hint)
    fields = {"subject": "team-1", "reason": "disk_full", "delay_seconds": 2.0}
    assert entries(stream)[0]["fields"] == fields | ({"hint": hint} if hint else {})


def test_what_was_held_back_is_told_after_the_fault_is_over(clock: HandClock) -> None:
    log, stream = opened("json", "info", clock)
    for _ in range(3):
        log.listing_failed("bucket", "timeout")
    log.heartbeat()
    clock.advance(61)
    log.heartbeat()
    log.heartbeat()
    seen = [(entry["event"], entry["fields"].get("suppressed")) for entry in entries(stream)]
    assert seen == [("listing_failed", None), ("repeated", 2)]


def test_different_faults_and_all_facts_get_through(clock: HandClock) -> None:
    log, stream = opened("json", "info", clock)
    for number in range(20):
        log.listing_failed("bucket", f"error {number}")
        log.fact(rejected("same"))
    assert len(entries(stream)) == 40


@pytest.mark.parametrize(
    ("level", "events"),
    [
        ("debug", ["listed", "sizes", "folded", "rejected", "message"]),
        ("info", ["folded", "rejected", "message"]),
        ("warning", ["rejected", "message"]),
        ("error", ["message"]),
    ],
)
def test_the_level_decides_what_is_written(clock: HandClock, level: str, events: list[str]) -> None:
    log, stream = opened("json", level, clock)
    log.listed("inbox", Listing(), 0)
    log.sizes(statistics_bytes=1, published_bytes=2, disk_free_bytes=3)
    log.fact(folded(1))
    log.fact(rejected())
    log.message("error", "the disk is gone", path="/state")
    assert [entry["event"] for entry in entries(stream)] == events


def test_an_exception_is_one_line(clock: HandClock) -> None:
    _, stream = opened("json", "info", clock)
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logging.getLogger("mergenode.http").exception("request failed")
    (entry,) = entries(stream)
    assert "ValueError: first\nsecond" in entry["fields"]["exception"]


def test_configuring_twice_writes_once(clock: HandClock) -> None:
    _, first = opened("json", "info", clock)
    log, second = opened("console", "info", clock)
    log.fact(folded(1))
    assert first.getvalue() == "" and second.getvalue().count("\n") == 1


@pytest.mark.parametrize(("format", "level"), [("xml", "info"), ("json", "loud")])
def test_an_unknown_choice_names_the_valid_ones(format: str, level: str) -> None:
    with pytest.raises(UsageError) as raised:
        configure_logging(format, level, io.StringIO())
    assert repr(format if format == "xml" else level) in raised.value.message
    assert ("json" if format == "xml" else "warning") in raised.value.hint
