"""Headers: what the safetensors library writes is read alike; nothing else than a clean refusal otherwise."""

from __future__ import annotations

import json
import os
import random
import tracemalloc
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from mergenode.adapters.checkpoints.header import Header, read_header
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.errors import RejectedError, RejectReason, TransientError
from mergenode.types import DType
from tests.support.checkpoints import base_tensors, forge

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
GOOD = save(base_tensors(), {"format": "pt"})
FUZZ = settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _read(path: Path, limits: Limits | None = None) -> Header:
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_header(fd, file=path.name, limits=limits or Limits())
    finally:
        os.close(fd)


def _reason(path: Path, limits: Limits | None = None) -> RejectReason:
    with pytest.raises(RejectedError) as caught:
        _read(path, limits)
    assert path.name in caught.value.message
    return caught.value.reason


TENSORS = st.dictionaries(
    st.text("abcdefgh.0123/ äß", min_size=1, max_size=20).filter(
        lambda name: name == name.strip() and "" not in name.split("/") and ".." not in name.split("/")
    ),
    st.tuples(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 5), max_size=4)),
    max_size=6,
)


@given(TENSORS, st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3))
@FUZZ
def test_reads_what_the_library_writes(
    tmp_path: Path, tensors: dict[str, tuple[str, list[int]]], metadata: dict[str, str]
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(
        save(
            {name: torch.zeros(shape, dtype=DTYPES[dtype]) for name, (dtype, shape) in tensors.items()},
            metadata or None,
        )
    )
    header = _read(path)
    found = {placed.spec.name: (placed.spec.dtype.value, list(placed.spec.shape)) for placed in header.tensors}
    assert found == tensors
    assert header.metadata == metadata
    assert header.file_size == path.stat().st_size


def test_places_are_where_the_bytes_are(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(GOOD)
    tensors = base_tensors()
    for placed in _read(path).tensors:
        raw = GOOD[placed.offset : placed.offset + placed.spec.nbytes]
        expected = tensors[placed.spec.name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        assert raw == expected
        assert placed.spec.dtype is DType(
            next(key for key, value in DTYPES.items() if value is tensors[placed.spec.name].dtype)
        )


def _library_accepts(path: Path) -> bool:
    try:
        with safe_open(path, "pt"):
            return True
    except SafetensorError:
        return False


@given(st.integers(0, 2**32), st.integers(1, 6))
@FUZZ
def test_mutated_files_are_refused_or_read_right(tmp_path: Path, seed: int, changes: int) -> None:
    draw = random.Random(seed)
    raw = bytearray(GOOD)
    end = 8 + int.from_bytes(GOOD[:8], "little")
    for _ in range(changes):
        kind, at = draw.randrange(4), draw.randrange(end)
        if kind == 0:
            raw[at] = draw.randrange(256)
        elif kind == 1:
            raw[at : at + draw.randrange(9)] = b""
        elif kind == 2:
            raw[at:at] = draw.choice([b"0", b'"', b"{", b"}", b",", b"[1]", b"-", b"\\u0000", b"null", b"\x00"])
        else:
            raw[at] = draw.choice(b'0123456789"{}[],:')
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw)
    try:
        header = _read(path)
    except (RejectedError, TransientError):
        return
    assert _library_accepts(path), "stricter than the reference, never laxer"
    covered = header.data_start
    for placed in header.tensors:
        assert placed.offset == covered
        covered += placed.spec.nbytes
    assert covered == len(raw)


@given(st.binary(max_size=200))
@example(b"")
@FUZZ
def test_any_header_text_is_refused_or_read(tmp_path: Path, text: bytes) -> None:
    path = forge(tmp_path / "x.safetensors", b'{"a":' + text + b"}")
    try:
        header = _read(path)
    except RejectedError:
        return
    assert _library_accepts(path)
    assert [placed.spec.name for placed in header.tensors] == ["a"]


def test_caps(tmp_path: Path) -> None:
    empty = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    five = forge(tmp_path / "five.safetensors", {f"t{number}": empty for number in range(5)})
    assert len(_read(five, Limits(tensors=5)).tensors) == 5
    assert _reason(five, Limits(tensors=4)) is RejectReason.TOO_MANY_TENSORS
    assert _reason(five, Limits(header_bytes=20)) is RejectReason.HEADER_TOO_LARGE
    assert _reason(five, Limits(name_characters=1)) is RejectReason.NAME_INVALID
    deep = forge(tmp_path / "deep.safetensors", {"a": {"dtype": "U8", "shape": [1] * 33, "data_offsets": [0, 1]}}, b"x")
    assert _reason(deep) is RejectReason.HEADER_INVALID
    talk = forge(tmp_path / "talk.safetensors", {"__metadata__": {"a": "x" * 60, "b": "y" * 60}})
    assert _read(talk).metadata["b"] == "y" * 60
    assert _reason(talk, Limits(metadata_bytes=100)) is RejectReason.HEADER_TOO_LARGE
    assert _reason(talk, Limits(metadata_entries=1)) is RejectReason.HEADER_TOO_LARGE


def test_a_header_full_of_junk_costs_no_more_than_its_size(tmp_path: Path) -> None:
    size = 8 << 20
    path = forge(tmp_path / "bomb.safetensors", b'{"__metadata__":{"a":"b"},"x":{"shape":[' + b"[]," * (size // 3))
    tracemalloc.start()
    try:
        assert _reason(path) is RejectReason.HEADER_INVALID
        # the buffer it is read into and its immutable copy
        assert tracemalloc.get_traced_memory()[1] < 2 * size + (1 << 20)
    finally:
        tracemalloc.stop()


def test_a_declared_exabyte_allocates_nothing(tmp_path: Path) -> None:
    header = {"x": {"dtype": "U8", "shape": [1 << 60], "data_offsets": [0, 1 << 60]}}
    path = forge(tmp_path / "exabyte.safetensors", header, b"1234")
    tracemalloc.start()
    try:
        assert _reason(path) is RejectReason.FILE_TRUNCATED
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_truncation_names_the_sizes_and_the_first_tensor_cut(tmp_path: Path) -> None:
    header = {
        "whole": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
        "cut": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]},
    }
    path = forge(tmp_path / "x.safetensors", header, b"12345")
    with pytest.raises(RejectedError) as caught:
        _read(path)
    start = 8 + len(json.dumps(header))
    assert f"has {start + 5} bytes" in caught.value.message
    assert f"declares {start + 8}" in caught.value.message
    assert "'cut'" in caught.value.message
    assert caught.value.hint


def test_trailing_spaces_in_the_header_are_padding(tmp_path: Path) -> None:
    path = forge(tmp_path / "x.safetensors", b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}       ', b"1")
    assert _read(path).tensors[0].spec.nbytes == 1


def test_an_empty_header_is_a_checkpoint_of_nothing(tmp_path: Path) -> None:
    assert _read(forge(tmp_path / "x.safetensors", b"{}")).tensors == ()
