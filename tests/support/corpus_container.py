"""Faults inside one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mergenode.errors import RejectReason as R
from tests.support.checkpoints import Q_PROJ, forge, take_apart
from tests.support.corpus_case import Cases

CONTAINER = Cases()
FILE = "model.safetensors"
TENSOR = f"{Q_PROJ}.weight"
Header = dict[str, Any]


def _raw(reason: R, name: str, content: bytes, *, settles: bool = False) -> None:
    """A file with exactly this content."""

    def write(place: Path, base: Path) -> None:
        place.mkdir()
        (place / FILE).write_bytes(content)

    write.__name__ = name
    CONTAINER.bad(reason, FILE, settles=settles)(write)


def _header(reason: R, name: str, text: bytes, *named: str, data: bytes = b"") -> None:
    """A file with exactly this header."""

    def write(place: Path, base: Path) -> None:
        forge(place / FILE, text, data)

    write.__name__ = name
    CONTAINER.bad(reason, FILE, *named)(write)


def _edited(
    reason: R,
    name: str,
    edit: Callable[[Header, bytes], tuple[Any, bytes]],
    tensor: str = TENSOR,
    *,
    settles: bool = False,
) -> None:
    """The base's own file with its header (and data) edited."""

    def write(place: Path, base: Path) -> None:
        forge(place / FILE, *edit(*take_apart(base / FILE)))

    write.__name__ = name
    CONTAINER.bad(reason, FILE, tensor, settles=settles)(write)


def _field(reason: R, name: str, settles: bool = False, **fields: Any) -> None:
    """One tensor of the base's own file declared otherwise."""

    def edit(header: Header, data: bytes) -> tuple[Any, bytes]:
        header[TENSOR] |= fields
        return header, data

    _edited(reason, name, edit, settles=settles)


_raw(R.HEADER_TOO_SHORT, "empty_file", b"")
_raw(R.HEADER_TOO_SHORT, "seven_bytes", b"\x10" + bytes(6))
_raw(R.HEADER_TOO_SHORT, "header_of_no_bytes", bytes(8))
_raw(R.HEADER_TOO_LARGE, "header_length_of_eight_exabytes", b"\xff" * 8 + b"{}")
_raw(R.HEADER_TOO_LARGE, "header_length_just_over_the_cap", ((100 << 20) + 1).to_bytes(8, "little") + b"{}")
_raw(R.HEADER_TOO_LARGE, "git_lfs_pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
_raw(R.FILE_TRUNCATED, "header_cut_off", (500).to_bytes(8, "little") + b'{"a":{"dtype":"F32"', settles=True)
_header(R.HEADER_INVALID, "header_not_json", b"{this is no JSON}   ")
_header(R.HEADER_INVALID, "header_is_an_array", b"[1, 2, 3]")
_header(R.HEADER_INVALID, "header_ends_early", b'{"a":{"dtype":"F32","shape":[1],', "'a'")
_header(R.HEADER_INVALID, "header_goes_on_after_its_end", b"{}{}")
_header(R.HEADER_INVALID, "header_not_utf8", b'{"\xff\xfe":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}')
_header(R.HEADER_INVALID, "header_nested_bomb", b'{"a":' + b"[" * 200_000, "'a'")
_header(R.HEADER_INVALID, "metadata_nested_bomb", b'{"__metadata__":' + b'{"a":' * 100_000)
_header(R.HEADER_INVALID, "shape_bomb", b'{"a":{"shape":[' + b"1," * 100_000 + b"1]}}", "'a'")
_header(R.HEADER_INVALID, "integer_bomb", b'{"a":{"shape":[' + b"9" * 100_000 + b"]}}", "'a'")
_header(R.HEADER_INVALID, "metadata_of_numbers", b'{"__metadata__":{"step":7}}')
_header(R.HEADER_INVALID, "header_starts_with_a_space", b' {"__metadata__":{}}')
_header(R.HEADER_DUPLICATE_KEY, "metadata_twice", b'{"__metadata__":{},"__metadata__":{}}')
_header(R.HEADER_DUPLICATE_KEY, "metadata_key_twice", b'{"__metadata__":{"a":"1","a":"2"}}')
_EMPTY = b'{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
_header(R.HEADER_DUPLICATE_KEY, "tensor_twice", b'{"a":' + _EMPTY + b',"a":' + _EMPTY + b"}", "'a'")
_header(R.HEADER_DUPLICATE_KEY, "tensor_twice_by_escape", b'{"a":' + _EMPTY + b',"\\u0061":' + _EMPTY + b"}", "'a'")
_header(R.HEADER_DUPLICATE_KEY, "field_twice", b'{"a":{"dtype":"F32","dtype":"F32","shape":[0]}}', "'a'")
_header(R.NAME_INVALID, "name_empty", b'{"":' + _EMPTY + b"}")
_header(R.NAME_INVALID, "name_with_newline", json.dumps({"a\nb": 1}).encode())
_header(R.NAME_INVALID, "name_climbs", json.dumps({"../../etc/passwd": 1}).encode(), "passwd")
_header(R.NAME_INVALID, "name_absolute", json.dumps({"/etc/passwd": 1}).encode(), "passwd")
_header(R.NAME_INVALID, "name_too_long", json.dumps({"a" * 600: 1}).encode())
_header(R.NAME_INVALID, "name_is_half_a_character", b'{"\\ud800":' + _EMPTY + b"}")

_field(R.HEADER_INVALID, "shape_negative", shape=[-32, -32])
_field(R.HEADER_INVALID, "shape_fraction", shape=[32.0, 32.0])
_field(R.HEADER_INVALID, "shape_of_booleans", shape=[True, True])
_field(R.HEADER_INVALID, "shape_of_strings", shape=["32", "32"])
_field(R.HEADER_INVALID, "shape_null", shape=None)
_field(R.HEADER_INVALID, "one_offset", data_offsets=[0])
_field(R.HEADER_INVALID, "three_offsets", data_offsets=[0, 1, 2])
_field(R.HEADER_INVALID, "unknown_field", compression="zstd")
_field(R.HEADER_INVALID, "dtype_number", dtype=7)
_field(R.DTYPE_UNSUPPORTED, "dtype_float8", dtype="F8_E4M3")
_field(R.DTYPE_UNSUPPORTED, "dtype_nonsense", dtype="FLOAT")
_field(R.OFFSETS_INVALID, "offsets_reversed", data_offsets=[2048, 0])
_field(R.OFFSETS_INVALID, "offsets_beyond_64_bits", data_offsets=[0, 1 << 64])
_field(R.SIZE_MISMATCH, "shape_too_small_for_its_bytes", shape=[32, 31])
_field(R.SIZE_MISMATCH, "shape_product_overflows", shape=[1 << 62, 1 << 62])


def _shift(name: str, reason: R, start: int) -> None:
    def edit(header: Header, data: bytes) -> tuple[Any, bytes]:
        begin, end = header[TENSOR]["data_offsets"]
        header[TENSOR]["data_offsets"] = [begin + start, end + start]
        return header, data

    _edited(reason, name, edit, tensor="")


_shift("offsets_overlap", R.OFFSETS_OVERLAP, -2)
_shift("offsets_leave_a_gap", R.OFFSETS_GAP, 2)


def _exabyte(header: Header, data: bytes) -> tuple[Any, bytes]:
    return {TENSOR: {"dtype": "BF16", "shape": [1 << 59], "data_offsets": [0, 1 << 60]}}, data


def _same_bytes(header: Header, data: bytes) -> tuple[Any, bytes]:
    header["model.another"] = header[TENSOR]
    return header, data


_edited(R.FILE_TRUNCATED, "tensor_of_an_exabyte", _exabyte, settles=True)
_edited(R.OFFSETS_OVERLAP, "two_tensors_on_the_same_bytes", _same_bytes, tensor="")
_edited(R.FILE_TRUNCATED, "data_cut_off", lambda header, data: (header, data[:-100]), tensor="incomplete", settles=True)
_edited(R.FILE_TRUNCATED, "no_data_at_all", lambda header, data: (header, b""), tensor="incomplete", settles=True)
_edited(R.FILE_TRAILING_BYTES, "trailing_bytes", lambda header, data: (header, data + b"x"), tensor="")
