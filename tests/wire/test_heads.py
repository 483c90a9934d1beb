"""Heads: one spelling each, read back strictly."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.errors import RejectedError, RejectReason
from mergenode.wire.heads import MAGIC, Head, Parent, pack_head, parse_head

ID = bytes(range(32))
PLAIN = Head("words", UUID(int=7), 1, 2, 3, ID, ID[::-1], b"b" * 32)  # type: ignore[arg-type]  # roots are bytes

numbers = st.integers(0, 2**64 - 1)
weights = st.floats(0, 1e300)
ids = st.binary(min_size=32, max_size=32)
names = st.text(st.characters(categories=["L", "N"], include_characters="._-"), min_size=1, max_size=9)
heads = st.builds(
    Head,
    lineage=names, node_id=st.uuids(), incarnation=numbers, epoch=numbers, seq=numbers, root=ids, schema_hash=ids,
    base=ids, weight=weights, push_sum=weights,
    parents=st.lists(
        st.builds(Parent, st.uuids(), ids, weights), max_size=4, unique_by=lambda parent: (parent.node_id, parent.root)
    ).map(tuple),
    metrics=st.dictionaries(names, st.floats(allow_nan=False, allow_infinity=False), max_size=4), created=numbers,
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(heads)
def test_heads_come_back_and_their_order_does_not_matter(head: Head) -> None:
    packed = pack_head(head)
    read = parse_head(packed)
    assert pack_head(read) == packed
    assert replace(read, parents=frozenset(read.parents)) == replace(head, parents=frozenset(head.parents))
    turned = replace(head, parents=head.parents[::-1], metrics=dict(reversed(head.metrics.items())))
    assert pack_head(turned) == packed


@settings(deadline=None, max_examples=150)
@given(heads, st.data())
def test_there_is_one_spelling(head: Head, data: st.DataObject) -> None:
    packed = bytearray(pack_head(head))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        read = parse_head(bytes(packed))
    except RejectedError as error:
        assert error.reason is RejectReason.HEADER_INVALID and error.message.startswith("head: ")
    else:
        assert pack_head(read) == bytes(packed)


def test_every_cut_and_every_addition_is_noticed() -> None:
    parents = (Parent(UUID(int=1), ID, 0.5), Parent(UUID(int=2), ID, 0.5))  # type: ignore[arg-type]  # roots are bytes
    packed = pack_head(replace(PLAIN, parents=parents, metrics={"loss": 0.5}))
    for length in range(len(packed)):
        with pytest.raises(RejectedError):
            parse_head(packed[:length])
    for bad in (packed + b"\0", b"", MAGIC, b"x" * 20_000):
        with pytest.raises(RejectedError):
            parse_head(bad)


@pytest.mark.parametrize(
    "change",
    [
        {"weight": -1.0}, {"weight": float("nan")}, {"push_sum": float("inf")}, {"seq": -1}, {"epoch": 2**64},
        {"lineage": ""}, {"lineage": "x" * 129}, {"lineage": "a\nb"}, {"root": b"short"}, {"metrics": {"": 1.0}},
        {"metrics": {f"m{i}": 0.0 for i in range(33)}}, {"parents": (Parent(UUID(int=1), ID, 1.0),) * 2},  # type: ignore[arg-type]  # roots are bytes
        {"parents": tuple(Parent(UUID(int=i), ID, 1.0) for i in range(129))},  # type: ignore[arg-type]  # roots are bytes
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_what_nobody_would_accept_is_not_packed(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="head of 00000000-0000-0000-0000-000000000007: "):
        pack_head(replace(PLAIN, **change))  # type: ignore[arg-type]  # wrong on purpose


def test_the_bytes_are_a_promise() -> None:
    """Signatures of existing heads depend on them."""
    packed = pack_head(PLAIN)
    words = MAGIC + b"\5\0words" + bytes(15) + b"\7" + b"".join(n.to_bytes(8, "little") for n in (1, 2, 3))
    one = bytes(6) + b"\xf0\x3f"
    assert packed == words + ID + ID[::-1] + b"b" * 32 + one + one + bytes(2) + bytes(2) + bytes(8)
