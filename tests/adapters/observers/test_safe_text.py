"""Text of others, made safe."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.observers.bounded_labels import ClosedLabels, FirstLabels
from mergenode.adapters.observers.repeats import RepeatLimit
from mergenode.adapters.observers.safe_text import redact, visible
from tests.support.observed import HandClock


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_visible_text_is_printable_and_says_what_was_there(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    shown.encode("utf-8")
    if text.isprintable():
        assert shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://key:pass@store/x", "s3://***@store/x"),
        ("a s3://k:p@h/x b https://t@h/y", "a s3://***@h/x b https://***@h/y"),
        ("https://h/x?token=abc&n=1", "https://h/x?token=***&n=1"),
        ("https://h/x?n=1&X-Amz-Credential=a/b", "https://h/x?n=1&X-Amz-Credential=***"),
        ("https://h/x?API_KEY=abc'", "https://h/x?API_KEY=***'"),
        ("mail a@b.example, path /x@y", "mail a@b.example, path /x@y"),
        ("https://h/x?page=2", "https://h/x?page=2"),
    ],
)
def test_redaction_removes_credentials_only(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_labels_are_bounded() -> None:
    closed, first = ClosedLabels(["a"]), FirstLabels(2)
    assert [closed.label(value) for value in "ab"] == ["a", "other"]
    assert [first.label(value) for value in "xyzxy"] == ["x", "y", "other", "x", "y"]


def test_repeats_are_counted_in_bounded_memory() -> None:
    clock = HandClock()
    repeats = RepeatLimit(clock.monotonic, window_seconds=10, capacity=3)
    assert [repeats.admit("a"), repeats.admit("a"), repeats.admit("a")] == [0, None, None]
    clock.advance(10)
    assert repeats.admit("a") == 2
    for number in range(1000):
        assert repeats.admit(str(number)) == 0
    assert repeats.admit("a") == 0, "the oldest keys make room"
    repeats.admit("a")
    clock.advance(10)
    assert repeats.expired() == [("a", 1)]
    assert repeats.expired() == []
