"""Files of the index come back as they were written, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.store.pool_files import PoolFiles
from mergenode.errors import TransientError
from mergenode.types import Digest

CONTENT = Digest("blake3:" + "ab" * 32)
OTHER = Digest("blake3:" + "cd" * 32)


def files(folder: Path, scheme: str = "s", data_bytes: int = 4) -> PoolFiles:
    return PoolFiles(folder / "pool", scheme, data_bytes)


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    store = files(tmp_path)
    assert store.sketch(CONTENT) is None and store.place("/somewhere") is None
    assert list(store.sketches()) == [] and list(store.places()) == []
    store.save_sketch(CONTENT, {"step": "0x1p-3"}, b"1234")
    store.save_place("/somewhere", {"content": CONTENT, "stamp": "x"})
    found = store.sketch(CONTENT)
    assert found is not None and found.data == b"1234" and found.facts["step"] == "0x1p-3"
    assert [content for content, _ in store.sketches()] == [CONTENT]
    assert store.place("/somewhere") == {"content": CONTENT, "stamp": "x", "location": "/somewhere"}
    assert list(store.places()) == [store.place("/somewhere")] and store.place("/elsewhere") is None


def test_a_sketch_of_another_scheme_or_size_is_none(tmp_path: Path) -> None:
    files(tmp_path).save_sketch(CONTENT, {}, b"1234")
    assert files(tmp_path, scheme="t").sketch(CONTENT) is None
    assert files(tmp_path, data_bytes=5).sketch(CONTENT) is None
    assert files(tmp_path, data_bytes=3).sketch(CONTENT) is None


def test_only_digests_become_names(tmp_path: Path) -> None:
    for odd in ("../../etc/passwd", "blake3:" + "A" * 64, "blake3:" + "a" * 63, "sha256:" + "a" * 64):
        with pytest.raises(ValueError, match="no content digest"):
            files(tmp_path).save_sketch(Digest(odd), {}, b"1234")


@settings(deadline=None, max_examples=80)
@given(position=st.integers(0, 10_000), value=st.integers(1, 255), cut=st.booleans())
def test_any_changed_byte_and_any_cut_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int, cut: bool
) -> None:
    store = files(tmp_path_factory.getbasetemp())
    store.save_sketch(CONTENT, {"a": 1}, b"1234")
    [path] = store.folder.glob("*.sketch")
    raw = bytearray(path.read_bytes())
    position %= len(raw)
    if cut:
        raw = raw[:position]
    else:
        raw[position] ^= value
    path.write_bytes(raw)
    assert store.sketch(CONTENT) is None


@pytest.mark.parametrize("text", [b"[]", b"{", b"\xff", b'"x"', b"{}"])
@pytest.mark.parametrize("length", [None, 0, 1 << 62])
def test_a_right_digest_over_nonsense_is_nonsense(tmp_path: Path, text: bytes, length: int | None) -> None:
    store = files(tmp_path)
    store.folder.mkdir()
    size = len(text) if length is None else length
    for kind, suffix in ((b"mergenode.sketch/1\n", "sketch"), (b"mergenode.place/1\n", "place")):
        body = kind + size.to_bytes(8, "little") + text
        (store.folder / f"{'ab' * 32}.{suffix}").write_bytes(body + blake3(body).digest())
    assert list(store.sketches()) == [] and list(store.places()) == []


def test_a_directory_in_place_of_a_file_is_no_file(tmp_path: Path) -> None:
    store = files(tmp_path)
    (store.folder / f"{'ab' * 32}.sketch").mkdir(parents=True)
    assert list(store.sketches()) == []


def test_errors_of_writing_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "pool").write_bytes(b"in the way")
    with pytest.raises(TransientError) as caught:
        files(tmp_path).save_sketch(CONTENT, {}, b"1234")
    assert caught.value.hint


def test_kept_are_the_contents_that_were_named(tmp_path: Path) -> None:
    store = files(tmp_path)
    for content, location in ((CONTENT, "/a"), (OTHER, "/b"), (CONTENT, "/c")):
        store.save_sketch(content, {}, b"1234")
        store.save_place(location, {"content": content})
    store.keep([CONTENT])
    assert [content for content, _ in store.sketches()] == [CONTENT]
    assert sorted(place["location"] for place in store.places()) == ["/a", "/c"]
