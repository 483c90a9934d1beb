from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.registries import marker as subject
from mergenode.adapters.registries.marker import (
    FilePromise,
    Marker,
    is_marker,
    marker_path,
    parse_marker,
    read_marker,
    write_marker,
)
from mergenode.errors import RejectedError, RejectReason, TransientError, TransientReason
from mergenode.types import Digest
from tests.support.registry_files import safetensors_bytes, write_sharded, write_single

DIGEST = Digest("blake3:" + "ab" * 32)
GOOD: dict[str, Any] = {"schema": "mergenode.commit/1", "files": {"model.safetensors": {"size": 3}}}


def _refused(data: bytes) -> RejectedError:
    with pytest.raises(RejectedError) as caught:
        parse_marker(data, file="x/mergenode.commit.json")
    assert caught.value.reason is RejectReason.MARKER_INVALID
    assert "x/mergenode.commit.json" in caught.value.message
    assert caught.value.hint
    return caught.value


def test_the_smallest_marker() -> None:
    parsed = parse_marker(json.dumps(GOOD).encode(), file="m")
    assert parsed == Marker(files={"model.safetensors": FilePromise(3)})
    assert (parsed.content, parsed.weight, parsed.base, parsed.profile) == (None, 1.0, None, ())


def test_every_field() -> None:
    files = {"a/b.json": {"size": 0, "blake3": "0" * 64}}
    document = {**GOOD, "content": DIGEST, "base": DIGEST, "weight": 2, "files": files}
    document["profile"] = {"*.mlp.*": 0.5, "*.attn.*": 2, "head": 0}
    parsed = parse_marker(json.dumps(document).encode(), file="m")
    profile = (("*.attn.*", 2.0), ("*.mlp.*", 0.5), ("head", 0.0))
    assert parsed == Marker({"a/b.json": FilePromise(0, "0" * 64)}, DIGEST, 2.0, DIGEST, profile)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "mergenode.commit/2"},
        {"schema": None},
        {"extra": 1},
        {"files": {}},
        {"files": []},
        {"files": None},
        {"content": "blake3:" + "AB" * 32},
        {"content": "sha256:" + "ab" * 32},
        {"content": None},
        {"base": 7},
        {"content": DIGEST + "\n"},
        {"profile": None},
        {"profile": [["*", 1]]},
        {"profile": {"": 1}},
        {"profile": {"x" * 501: 1}},
        {"profile": {"*": -0.5}},
        {"profile": {"*": True}},
        {"profile": {"*": "1"}},
        {"profile": {"*": 1e7}},
        {"profile": {"*": 10**400}},
        {"profile": {f"{number}": 1 for number in range(101)}},
        {"weight": 0},
        {"weight": -1},
        {"weight": True},
        {"weight": "1"},
        {"weight": None},
        {"weight": 10**400},
        {"files": {"../x": {"size": 1}}},
        {"files": {"/etc/x": {"size": 1}}},
        {"files": {"a\\b": {"size": 1}}},
        {"files": {"": {"size": 1}}},
        {"files": {"a//b": {"size": 1}}},
        {"files": {"./a": {"size": 1}}},
        {"files": {"a\nb": {"size": 1}}},
        {"files": {"x" * 300: {"size": 1}}},
        {"files": {"a\x00": {"size": 1}}},
        {"files": {"a": {"size": -1}}},
        {"files": {"a": {"size": 1.0}}},
        {"files": {"a": {"size": True}}},
        {"files": {"a": {"size": 1 << 70}}},
        {"files": {"a": {}}},
        {"files": {"a": 3}},
        {"files": {"a": {"size": 1, "x": 1}}},
        {"files": {"a": {"size": 1, "blake3": "blake3:" + "0" * 64}}},
        {"files": {"a": {"size": 1, "blake3": 5}}},
    ],
)
def test_anything_else_is_refused(change: dict[str, Any]) -> None:
    _refused(json.dumps({**GOOD, **change}).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"3",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"a":' * 100_000,
        json.dumps(GOOD).encode()[:-5],
        b'{"schema":"mergenode.commit/1","schema":"mergenode.commit/1","files":{"a":{"size":1}}}',
        b'{"schema":"mergenode.commit/1","files":{"a":{"size":1},"a":{"size":2}}}',
        b'{"schema":"mergenode.commit/1","files":{"a":{"size":1,"size":2}}}',
        b'{"schema":"mergenode.commit/1","profile":{"*":NaN},"files":{"a":{"size":1}}}',
        b'{"schema":"mergenode.commit/1","profile":{"*":1,"*":2},"files":{"a":{"size":1}}}',
        b'{"schema":"mergenode.commit/1","weight":NaN,"files":{"a":{"size":1}}}',
        b'{"schema":"mergenode.commit/1","weight":Infinity,"files":{"a":{"size":1}}}',
        b'{"schema":"mergenode.commit/1","weight":1e999,"files":{"a":{"size":1}}}',
        b'{"schema":"mergenode.commit/1","files":{"a":{"size":' + b"9" * 5000 + b"}}}",
        b'{"schema":"mergenode.commit/1","files":{"\\ud800":{"size":1}}}',
    ],
)
def test_hostile_bytes_are_refused(data: bytes) -> None:
    _refused(data)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_damaged_markers_are_refused_or_say_the_same_kind_of_thing(data: st.DataObject) -> None:
    document = bytearray(json.dumps({**GOOD, "content": DIGEST, "weight": 0.5}).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        document[data.draw(st.integers(0, len(document) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = parse_marker(bytes(document), file="m")
    except RejectedError as error:
        assert error.reason is RejectReason.MARKER_INVALID
    else:
        assert parsed.weight > 0 and all(promise.size >= 0 for promise in parsed.files.values())


def test_messages_show_hostile_names_escaped() -> None:
    error = _refused(json.dumps({**GOOD, "files": {"\x1b[31m": {"size": 1}}}).encode())
    assert error.message.isprintable()


def test_names_of_markers(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    assert marker_path(tmp_path / "d").name == "mergenode.commit.json"
    assert marker_path(tmp_path / "x.safetensors").name == "x.safetensors.commit.json"
    assert is_marker("mergenode.commit.json") and is_marker("x.safetensors.commit.json")
    assert not is_marker("x.commit.json") and not is_marker("config.json")


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    directory = write_sharded(tmp_path / "model", 2)
    (directory / "training.log").write_text("x")
    (directory / ".hidden.safetensors.tmp").write_text("x")
    path = write_marker(directory, content=DIGEST, weight=0.25, base=DIGEST, profile={"b": 1, "a": 0})
    assert path == directory / "mergenode.commit.json"
    read = read_marker(directory)
    assert read is not None
    assert (read.content, read.weight, read.base) == (DIGEST, 0.25, DIGEST)
    assert read.profile == (("a", 0.0), ("b", 1.0))
    sizes = {file.name: file.stat().st_size for file in directory.iterdir()}
    assert {name: promise.size for name, promise in read.files.items()} == {
        name: sizes[name]
        for name in (
            "config.json", "model.safetensors.index.json",
            "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
        )
    }  # fmt: skip
    assert read.files["config.json"].blake3 == blake3(b"{}").hexdigest()
    assert read.files["model-00001-of-00002.safetensors"].blake3 is None


def test_writing_twice_gives_the_same_bytes_and_leaves_nothing_else(tmp_path: Path) -> None:
    directory = write_single(tmp_path / "model")
    before = set(os.listdir(directory))
    first = write_marker(directory).read_bytes()
    assert write_marker(directory).read_bytes() == first
    assert set(os.listdir(directory)) == before | {"mergenode.commit.json"}


def test_the_marker_of_a_bare_file_lies_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(safetensors_bytes())
    assert write_marker(file, content=lambda path: DIGEST) == tmp_path / "x.safetensors.commit.json"
    read = read_marker(file)
    assert read is not None and read.content == DIGEST
    assert read.files == {"x.safetensors": FilePromise(file.stat().st_size)}


def test_no_marker_reads_as_none(tmp_path: Path) -> None:
    assert read_marker(write_single(tmp_path / "model")) is None


def test_files_that_change_while_they_are_digested_are_not_committed(tmp_path: Path) -> None:
    directory = write_single(tmp_path / "model")

    def digest(path: Path) -> Digest:
        (path / "model.safetensors").write_bytes(safetensors_bytes(9))
        return DIGEST

    with pytest.raises(TransientError) as caught:
        write_marker(directory, content=digest)
    assert caught.value.reason is TransientReason.CHANGED_WHILE_READING
    assert read_marker(directory) is None


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bad_weight_writes_nothing(tmp_path: Path, weight: float) -> None:
    directory = write_single(tmp_path / "model")
    with pytest.raises(RejectedError):
        write_marker(directory, weight=weight)
    assert read_marker(directory) is None


def test_a_bad_digest_writes_nothing(tmp_path: Path) -> None:
    directory = write_single(tmp_path / "model")
    with pytest.raises(RejectedError):
        write_marker(directory, content=Digest("blake3:short"))
    assert not marker_path(directory).exists()


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (["config.json"], RejectReason.NO_WEIGHTS),
        ([], RejectReason.NO_WEIGHTS),
        (["config.json", "pytorch_model.bin"], RejectReason.PICKLE_ONLY),
        (["a\nb.safetensors"], RejectReason.PATH_UNSAFE),
    ],
)
def test_what_cannot_be_committed(tmp_path: Path, files: list[str], reason: RejectReason) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(RejectedError) as caught:
        write_marker(tmp_path)
    assert caught.value.reason is reason and caught.value.hint


def test_a_bare_pickle_and_a_missing_path_cannot_be_committed(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"x")
    with pytest.raises(RejectedError) as caught:
        write_marker(tmp_path / "x.bin")
    assert caught.value.reason is RejectReason.PICKLE_ONLY
    with pytest.raises(TransientError) as missing:
        write_marker(tmp_path / "no.safetensors")
    assert missing.value.reason is TransientReason.READ_FAILED


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "large"])
def test_a_marker_that_is_no_small_regular_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    directory = write_single(tmp_path / "model")
    marker = marker_path(directory)
    if kind == "link":
        marker.symlink_to(write_marker(write_single(tmp_path / "other")))
    elif kind == "fifo":
        os.mkfifo(marker)
    elif kind == "directory":
        marker.mkdir()
    else:
        monkeypatch.setattr(subject, "MARKER_BYTES", 10)
        marker.write_text(json.dumps(GOOD))
    with pytest.raises(RejectedError) as caught:
        read_marker(directory)
    assert caught.value.reason is RejectReason.MARKER_INVALID
