"""Who is believed, and what is said to those who are not."""

from __future__ import annotations

import random
from dataclasses import replace
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mergenode.wire.admission import (
    Admitted,
    Expectation,
    HeadBook,
    HeadFault,
    Known,
    Refused,
    SignedHead,
    sign_head,
)
from mergenode.wire.blocks import Root
from mergenode.wire.heads import Head

KEYS = {UUID(int=number): Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2)}
ONE, TWO = KEYS
BASE, SCHEMA = Root(b"b" * 32), b"s" * 32
EXPECTED = Expectation("words", SCHEMA, BASE, {node: key.public_key() for node, key in KEYS.items()}, min_epoch=5)


def head(node: UUID = ONE, incarnation: int = 1, seq: int = 1, root: bytes = b"r" * 32) -> Head:
    return Head("words", node, incarnation, 5, seq, Root(root), SCHEMA, BASE)


def signed(of: Head | None = None, key: UUID | None = None) -> SignedHead:
    of = of or head()
    return sign_head(of, KEYS[key or of.node_id])


def admitted(book: HeadBook, *heads: SignedHead) -> HeadBook:
    for each in heads:
        verdict = book.admit(each, EXPECTED)
        assert isinstance(verdict, Admitted)
        book = verdict.book
    return book


def refused(each: SignedHead, book: HeadBook | None = None) -> Refused:
    verdict = (book or HeadBook()).admit(each, EXPECTED)
    assert isinstance(verdict, Refused) and verdict.message and verdict.hint
    return verdict


@pytest.mark.parametrize(
    ("fault", "bad", "says"),
    [
        (HeadFault.MALFORMED, SignedHead(b"garbage", b""), "the first line"),
        (HeadFault.UNKNOWN_NODE, signed(head(UUID(int=3)), ONE), "its key is not known"),
        (HeadFault.SIGNATURE, signed(head(TWO), ONE), "not that of the node"),
        (HeadFault.LINEAGE, signed(replace(head(), lineage="other")), "'other'"),
        (HeadFault.SCHEMA, signed(replace(head(), schema_hash=b"x" * 32)), "names, types or shapes"),
        (HeadFault.BASE, signed(replace(head(), base=Root(b"x" * 32))), "its base is 787878787878"),
        (HeadFault.STALE, signed(replace(head(), epoch=4)), "epoch 4, 5 is the oldest"),
    ],
)
def test_a_refusal_names_what_is_wrong(fault: HeadFault, bad: SignedHead, says: str) -> None:
    verdict = refused(bad)
    assert verdict.fault is fault and says in verdict.message


def test_every_flipped_bit_is_caught() -> None:
    good = signed()
    for part in ("head", "signature"):
        data = getattr(good, part)
        for bit in range(8 * len(data)):
            bad = bytearray(data)
            bad[bit // 8] ^= 1 << bit % 8
            verdict = refused(replace(good, **{part: bytes(bad)}))
            assert verdict.fault in (HeadFault.SIGNATURE, HeadFault.MALFORMED, HeadFault.UNKNOWN_NODE)
    for cut in (good.signature[:-1], b"", good.signature * 2):
        assert refused(replace(good, signature=cut)).fault is HeadFault.SIGNATURE


def test_a_signature_says_nothing_about_another_node() -> None:
    """The bytes name their node, so a signature cannot be carried over."""
    assert refused(SignedHead(signed(head(TWO)).head, signed(head(ONE)).signature)).fault is HeadFault.SIGNATURE


def test_replayed_heads_change_nothing() -> None:
    first, second = signed(head(seq=1)), signed(head(seq=2))
    book = admitted(HeadBook(), first, second)
    assert isinstance(book.admit(second, EXPECTED), Known)
    assert refused(first, book).fault is HeadFault.REPLAYED
    assert book.newest == {ONE: second}


def test_the_newest_incarnation_wins() -> None:
    before, after = signed(head(incarnation=1, seq=900)), signed(head(incarnation=2, seq=1))
    assert refused(before, admitted(HeadBook(), before, after)).fault is HeadFault.REPLAYED


def test_two_heads_in_one_position_prove_a_lie() -> None:
    first, other = signed(head(root=b"r" * 32)), signed(head(root=b"q" * 32))
    verdict = refused(other, admitted(HeadBook(), first))
    assert verdict.fault is HeadFault.CONFLICTING and verdict.other == first and verdict.head is not None


def test_any_order_with_repeats_ends_with_the_newest_of_every_node() -> None:
    every = [signed(head(node, incarnation, seq)) for node in KEYS for incarnation in (1, 2) for seq in (1, 2, 3)]
    for seed in range(30):
        order = random.Random(seed)
        book = HeadBook()
        for each in order.choices(every, k=20) + order.sample(every, len(every)):
            verdict = book.admit(each, EXPECTED)
            if isinstance(verdict, Admitted):
                book = verdict.book
            elif isinstance(verdict, Refused):
                assert verdict.fault is HeadFault.REPLAYED
        assert book.newest == {node: signed(head(node, 2, 3)) for node in KEYS}


def test_signing_is_deterministic_and_refuses_what_cannot_be_packed() -> None:
    assert signed() == signed()
    with pytest.raises(ValueError, match="weight"):
        signed(replace(head(), weight=-1.0))
