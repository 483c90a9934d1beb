"""Reading the output of a process."""

from __future__ import annotations

import os

import pytest

from tests.support.output_lines import OutputLines


def test_lines_are_gone_through_in_order_and_each_once() -> None:
    source, sink = os.pipe()
    with open(source) as read, open(sink, "w", buffering=1) as written:
        output = OutputLines(read)
        written.write("one a\ntwo\none b\n")
        assert output.until("one") == "one a\n" and output.until("one") == "one b\n"
        written.write("three")
        written.close()
        assert output.until("thr") == "three"
        with pytest.raises(AssertionError, match="no 'two' in:\none a\ntwo\n"):
            output.until("two")
        output.close()
        assert output.lines == ["one a\n", "two\n", "one b\n", "three"] and output.text == "one a\ntwo\none b\nthree"
        assert read.closed


def test_nobody_is_held_up_by_output_that_nobody_looks_at() -> None:
    source, sink = os.pipe()
    with open(source) as read, open(sink, "w") as written:
        output = OutputLines(read)
        for number in range(20_000):  # more than a pipe holds
            written.write(f"line {number}\n")
        written.close()
        output.close()
        assert len(output.lines) == 20_000


def test_what_does_not_come_in_time_fails_with_what_came() -> None:
    source, sink = os.pipe()
    with open(source) as read, open(sink, "w", buffering=1) as written:
        output = OutputLines(read)
        written.write("only this\n")
        output.until("only")
        with pytest.raises(AssertionError, match="only this"):
            output.until("that", patience=0.01)
        written.close()
        output.close()
