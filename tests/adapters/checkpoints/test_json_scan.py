"""The scanner accepts exactly what a JSON parser accepts, and never builds more than it was asked for."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.checkpoints.json_scan import DuplicateKey, JsonFault, JsonScanner, parse_small

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def _accepted_by_json(text: bytes) -> bool:
    def refuse(name: str) -> object:
        raise ValueError(name)

    try:
        json.loads(text.decode(), parse_constant=refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _skipped_whole(text: bytes) -> bool:
    scanner = JsonScanner(text)
    try:
        scanner.skip(64)
        scanner.end()
    except JsonFault:
        return False
    return True


@given(VALUES, st.booleans())
@settings(deadline=None, max_examples=150)
def test_every_document_is_skipped_and_parsed(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert _skipped_whole(text)
    assert parse_small(text) == value


@given(st.text(alphabet='{}[]",:0123456789.eE+-truefalsn\\ \n', max_size=24))
@settings(deadline=None, max_examples=400)
def test_agrees_with_json_on_any_text(text: str) -> None:
    assert _skipped_whole(text.encode()) == _accepted_by_json(text.encode())


@given(st.text(), st.booleans())
@settings(deadline=None, max_examples=150)
def test_strings_come_back(value: str, ascii_only: bool) -> None:
    scanner = JsonScanner(json.dumps(value, ensure_ascii=ascii_only).encode())
    assert scanner.string(1 << 20) == value
    scanner.end()


@pytest.mark.parametrize("text", [b"-1", b"1.0", b"1e3", b"01", b"true", b'"1"', b"", b"9" * 21])
def test_only_plain_naturals_count(text: bytes) -> None:
    scanner = JsonScanner(text)
    with pytest.raises(JsonFault):
        scanner.natural()
        scanner.end()


def test_arrays_and_strings_stop_at_their_caps() -> None:
    assert JsonScanner(b" [ 1 , 2 ] ").naturals(2) == (1, 2)
    with pytest.raises(JsonFault, match="more than 2"):
        JsonScanner(b"[1,2,3]").naturals(2)
    assert JsonScanner(b'"abc"').string(3) == "abc"
    with pytest.raises(JsonFault, match="longer than 2"):
        JsonScanner(b'"abc"').string(2)


def test_nesting_stops_at_its_cap() -> None:
    JsonScanner(b"[[[]]]").skip(3)
    with pytest.raises(JsonFault, match="nesting"):
        JsonScanner(b"[[[]]]").skip(2)


def test_duplicate_keys_are_refused() -> None:
    with pytest.raises(DuplicateKey, match="'a'"):
        parse_small(b'{"b": {"a": 1, "\\u0061": 2}}')


@pytest.mark.parametrize("text", [b"\xff", b'"\xff"', b"{", b"NaN", b"Infinity", b"[1,]", b"{}x", b"\xef\xbb\xbf{}"])
def test_small_documents_must_be_json(text: bytes) -> None:
    with pytest.raises(JsonFault):
        parse_small(text)


@pytest.mark.parametrize("piece", [b"[],", b"{},", b"[[[", b'"a",', b"0,"])
def test_a_monster_is_refused_early_in_constant_memory(piece: bytes) -> None:
    scanner = JsonScanner(b'{"a":[' + piece * (1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(JsonFault):
            scanner.skip(max_bytes=10_000)
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()
    assert scanner.position < 20_000


def test_a_deep_document_is_refused() -> None:
    with pytest.raises(JsonFault, match="deep"):
        parse_small(b"[" * 500_000)
