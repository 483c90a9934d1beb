from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from mergenode.adapters.registries import extent
from mergenode.adapters.registries.extent import declared_bytes
from tests.support.registry_files import safetensors_bytes

CAP = 1 << 20


def _declared(path: Path, data: bytes, cap: int = CAP) -> int | None:
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        return declared_bytes(fd, len(data), cap)
    finally:
        os.close(fd)


def _oracle(data: bytes) -> int:
    """Parse everything."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)


@settings(deadline=None, max_examples=50)
@given(
    header=st.dictionaries(
        st.text(max_size=12).filter(lambda name: name != "__metadata__"),
        st.integers(0, 1 << 50).map(lambda end: {"dtype": "U8", "shape": [end], "data_offsets": [0, end]}),
        max_size=8,
    ),
    metadata=st.dictionaries(st.text(max_size=8), st.text(max_size=30), max_size=3),
    indent=st.sampled_from([None, 1]),
)
def test_equals_a_full_parse(
    tmp_path_factory: pytest.TempPathFactory,
    header: dict[str, object],
    metadata: dict[str, str],
    indent: int | None,
) -> None:
    text = json.dumps({**header, "__metadata__": metadata}, indent=indent).encode()
    data = struct.pack("<Q", len(text)) + text
    assert _declared(tmp_path_factory.mktemp("extent") / "x", data) == _oracle(data)


def test_a_value_that_looks_like_offsets_does_not_count(tmp_path: Path) -> None:
    metadata = {"__metadata__": {"note": '"data_offsets": [0, 999999]'}}
    text = json.dumps({**metadata, "w": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]}}).encode()
    assert _declared(tmp_path / "x", struct.pack("<Q", len(text)) + text + b"abc") == 8 + len(text) + 3


def test_agrees_with_the_library(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    data = save({"a": np.zeros((3, 5), np.float32), "b": np.zeros((7,), np.int8)}, metadata={"format": "pt"})
    assert _declared(tmp_path / "x", data) == len(data)


@pytest.mark.parametrize("piece", [64, 100, 1 << 20])
def test_offsets_across_pieces_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(extent, "_PIECE_BYTES", piece)
    header = {f"w{n:03d}": {"dtype": "U8", "shape": [1], "data_offsets": [n, n + 1]} for n in range(100)}
    text = json.dumps(header).encode()
    data = struct.pack("<Q", len(text)) + text
    assert _declared(tmp_path / "x", data) == 8 + len(text) + 100


def test_every_prefix_declares_more_than_it_has(tmp_path: Path) -> None:
    data = safetensors_bytes(8)
    for length in range(len(data)):
        declared = _declared(tmp_path / "x", data[:length])
        assert declared is not None and declared > length
    assert _declared(tmp_path / "x", data) == len(data)


def test_a_preallocated_hole_is_no_header_yet_but_has_its_size(tmp_path: Path) -> None:
    assert _declared(tmp_path / "x", b"\0" * 4096) is None


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", CAP + 1) + b"{}",
        struct.pack("<Q", 1) + b"{}",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
        struct.pack("<Q", 500) + b"garbage",
    ],
)
def test_what_cannot_be_a_header_is_not_waited_for(tmp_path: Path, data: bytes) -> None:
    assert _declared(tmp_path / "x", data) is None
