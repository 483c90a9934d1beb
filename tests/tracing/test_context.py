"""What travels is W3C Trace Context, and what arrives is not trusted."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.tracing.context import (
    TRACEPARENT,
    Place,
    at,
    call_metadata,
    called_from,
    caller,
    fresh,
    here,
    read_traceparent,
    stay,
    within,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


def test_what_is_written_is_read() -> None:
    for place in (Place(TRACE, SPAN, sampled=True), Place(TRACE, SPAN), fresh(), at(TRACE)):
        assert read_traceparent([(TRACEPARENT, place.traceparent)]) == Place(
            place.trace_id, place.span_id, place.sampled
        )
    assert Place(TRACE, SPAN, sampled=True).traceparent == GOOD


@pytest.mark.parametrize(
    "value",
    [
        "", "00", GOOD[:-1], GOOD + "-more", GOOD.upper(), f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01", f"0x-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-0g", f"00_{TRACE}-{SPAN}-01",
        GOOD + "\n", " " + GOOD, f"01-{TRACE}-{SPAN}-01-" + "x" * 4000, f"00-{TRACE[:-1]}\u0661-{SPAN}-01",
        GOOD.encode(),
    ],
)  # fmt: skip
def test_anything_else_is_as_if_nothing_was_sent(value: str | bytes) -> None:
    assert read_traceparent([(TRACEPARENT, value)]) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert read_traceparent([(TRACEPARENT, f"01-{TRACE}-{SPAN}-03-more")]) == Place(TRACE, SPAN, sampled=True)
    assert read_traceparent([(TRACEPARENT, GOOD), (TRACEPARENT, GOOD)]) is None
    assert read_traceparent([("other", GOOD)]) is None and read_traceparent([]) is None


@settings(deadline=None)
@given(value=st.one_of(st.text(max_size=200), st.binary(max_size=80)))
def test_no_metadata_breaks_the_reader(value: str | bytes) -> None:
    found = read_traceparent([(TRACEPARENT, value)])
    assert found is None or value == found.traceparent or isinstance(value, str)


def test_a_place_is_left_again_and_is_that_of_one_thread() -> None:
    seen: list[Place | None] = []
    with within(at(TRACE)):
        assert here() == at(TRACE)
        assert dict(call_metadata())[TRACEPARENT] == at(TRACE).traceparent
        thread = threading.Thread(target=lambda: seen.append(here()))
        thread.start()
        thread.join()
        with within(None):
            assert here() is None
    assert here() is None and seen == [None]
    assert read_traceparent(call_metadata()) is not None  # a trace of its own


def test_what_a_call_says_stays_in_its_task() -> None:
    async def call(trace: str) -> tuple[Place | None, Place | None]:
        called_from(at(trace))
        stay(at(trace))
        await asyncio.sleep(0)
        return caller(), here()

    async def both() -> list[tuple[Place | None, Place | None]]:
        return list(await asyncio.gather(*(asyncio.create_task(call(trace)) for trace in ("a" * 32, "b" * 32))))

    assert asyncio.run(both()) == [(at("a" * 32),) * 2, (at("b" * 32),) * 2]
    assert caller() is None and here() is None
