"""Parts come back as they were sent, and a stranger's text ends in a refusal, whatever it is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.errors import RejectedError, RejectReason
from mergenode.ledger import part_codec
from mergenode.ledger.part_codec import MOST_BYTES, decode_part, encode_part, same_merge
from mergenode.ledger.union import Entry, Part, Ruling
from tests.support.facts import digest

NODE = "00000000-0000-0000-0000-000000000001"


def full_part() -> Part:
    entry = Entry(
        registry="inbox", name="m", revision="r", kind="full", weight=0.1, norm=1.5, relative_norm=1e-3,
        profile=(("*.bias", 0.5),),
    )  # fmt: skip
    return Part(
        node=NODE, base=digest(0), method="iso", options={"scale": "own", "exclude": ["a"]}, generation=4,
        last=digest(2), statistics=digest(3), lineage=digest(4), totals={"count": 1.0, "norm_sum": 0.1},
        entries={digest(5): entry}, standby=frozenset({digest(6)}), fixed=frozenset({digest(5)}),
        rulings={digest(7): Ruling(digest(7), 3, "2026-01-01T00:00:00Z", NODE, "asked")}, forgotten={NODE: 2},
    )  # fmt: skip


def test_a_part_comes_back_as_it_was() -> None:
    assert decode_part(encode_part(full_part())) == full_part()


def test_long_texts_are_cut() -> None:
    part = full_part()
    long = replace(part, entries={digest(5): replace(part.entries[digest(5)], name="n" * 1000)})
    assert len(decode_part(encode_part(long)).entries[digest(5)].name) == part_codec.TEXT_CHARACTERS


def changed(**fields: Any) -> bytes:
    document = json.loads(encode_part(full_part()))
    return json.dumps({**document, **fields}).encode()


ROW = [digest(5), "inbox", "m", "r", "full", 1.0, 1.0, 0.1, {}]
FORGED: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"{",
    "not ASCII": "{\"ü\": 1}".encode(),
    "a list": b"[]",
    "deeply nested": b"[" * 100_000,
    "deeply nested options": changed()[:-1] + b',"options":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
    "another format": changed(format="mergenode.part/2"),
    "a key too many": changed(more=1),
    "a node that is none": changed(node="x"),
    "a node in another spelling": changed(node=NODE.replace("-", "")),
    "a digest that is none": changed(base="blake3:12"),
    "a generation below 0": changed(generation=-1),
    "a generation that is true": changed(generation=True),
    "totals that are not finite": changed(totals={"count": 1}).replace(b'{"count": 1}', b'{"count": NaN}'),
    "totals without end": changed(totals={"count": 1}).replace(b'{"count": 1}', b'{"count": 1e999}'),
    "a huge number": changed(totals={"count": 1}).replace(b'{"count": 1}', b'{"count": 1' + b"0" * 5000 + b"}"),
    "too many totals": changed(totals={str(number): 1.0 for number in range(100)}),
    "a contribution twice": changed(contributions=[ROW, ROW]),
    "a contribution too short": changed(contributions=[ROW[:-1]]),
    "a contribution of no kind": changed(contributions=[[*ROW[:4], "odd", *ROW[5:]]]),
    "a norm below 0": changed(contributions=[[*ROW[:6], -1.0, *ROW[7:]]]),
    "a name that is no text": changed(contributions=[[ROW[0], 3, *ROW[2:]]]),
    "a ruling with the number 0": changed(rulings=[[digest(7), 0, "t", NODE, ""]]),
    "a ruling beyond all numbers": changed(rulings=[[digest(7), 1 << 60, "t", NODE, ""]]),
    "a forgotten node that is none": changed(forgotten=[["x", 1]]),
    "more bytes than are read": b" " * (MOST_BYTES + 1),
    "more lists than there can be": b"[" + b"[]," * 400_000 + b"[]]",
}  # fmt: skip


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_text_is_refused(what: str) -> None:
    with pytest.raises(RejectedError) as refused:
        decode_part(FORGED[what])
    assert refused.value.reason is RejectReason.HEADER_INVALID
    assert len(refused.value.message) < 400


@settings(deadline=None)
@given(st.integers(0, 2000), st.integers(0, 255))
def test_a_flipped_byte_is_refused_or_read(place: int, value: int) -> None:
    text = bytearray(encode_part(full_part()))
    text[place % len(text)] = value
    try:
        decode_part(bytes(text))
    except RejectedError as error:
        assert error.reason is RejectReason.HEADER_INVALID


def test_more_than_others_read_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_codec, "MOST_CONTRIBUTIONS", 0)
    with pytest.raises(RejectedError) as refused:
        encode_part(full_part())
    assert refused.value.reason is RejectReason.TOO_LARGE


@pytest.mark.parametrize("change", [{"base": digest(1)}, {"method": "ties"}, {"options": {"scale": 1.0}}])
def test_merges_that_cannot_be_added_are_told_apart(change: dict[str, Any]) -> None:
    part = full_part()
    assert same_merge(part, base=part.base, method=part.method, options=part.options) == ""
    assert same_merge(replace(part, **change), base=part.base, method=part.method, options=part.options) != ""
