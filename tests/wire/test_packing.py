"""Fields: one spelling each, and nothing is believed before it is there."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.errors import RejectedError
from mergenode.wire.packing import Unpacking, packed_float, packed_number, packed_text


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
def test_fields_come_back(number: int, value: float, flag: bool) -> None:
    fields = Unpacking(packed_number(number, 8) + packed_float(value) + packed_number(flag, 1) + packed_text("é"), "it")
    assert fields.number(8, "number") == number
    read = fields.float("value")
    assert read == value and not (read == 0 and math.copysign(1, read) < 0)
    assert fields.flag("flag") is flag and fields.text(1, "text") == "é"
    fields.end()


def test_what_has_no_spelling() -> None:
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="finite"):
            packed_float(value)
    for number, width in ((256, 1), (-1, 8), (2**64, 8)):
        with pytest.raises(OverflowError):
            packed_number(number, width)
    with pytest.raises(UnicodeEncodeError):
        packed_text("\ud800")
    with pytest.raises(OverflowError):
        packed_text("x" * 65536)


@pytest.mark.parametrize(
    ("data", "read", "says"),
    [
        (b"abc", lambda f: f.raw(4, "the root"), r"it: the root needs 4 bytes, 3 are left \(byte 0\)"),
        (b"\2", lambda f: f.flag("the flag"), "the flag is 2"),
        (packed_number(0x7FF << 52, 8), lambda f: f.float("the norm"), "the norm is inf"),
        (packed_number(1 << 63, 8), lambda f: f.float("the norm"), "the norm is -0.0"),
        (b"\xff\xffab", lambda f: f.text(9, "the name"), "needs 65535 bytes, 2 are left"),
        (b"\2\0\xc3(", lambda f: f.text(9, "the name"), r"not UTF-8 \(byte 0\)"),
        (packed_text("abc"), lambda f: f.text(2, "the name"), "not 1 to 2 printable"),
        (b"x", lambda f: f.end(), "1 bytes after the end"),
    ],
)
def test_errors_say_what_and_where(data: bytes, read: object, says: str) -> None:
    with pytest.raises(RejectedError, match=says):
        read(Unpacking(data, "it"))  # type: ignore[operator]  # one of the calls above
