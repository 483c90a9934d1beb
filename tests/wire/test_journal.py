"""The journal's file: read back, or refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.errors import RejectedError, RejectReason
from mergenode.wire.blocks import Root
from mergenode.wire.journal import (
    Journal,
    bits_of,
    indexes_in,
    pack_journal,
    packed_bits,
    parse_journal,
    unpacked_bits,
)

ROOT = Root(b"r" * 32)


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 70).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, max(0, n - 1)), max_size=n))))
def test_sets_of_blocks_come_back(case: tuple[int, set[int]]) -> None:
    blocks, indexes = case
    bits = bits_of(indexes)
    assert bits == sum(1 << index for index in indexes)
    assert list(indexes_in(bits)) == sorted(indexes)
    packed = packed_bits(bits, blocks)
    assert unpacked_bits(packed, blocks, "wanted") == bits
    assert [index for index in range(blocks) if packed[index // 8] >> index % 8 & 1] == sorted(indexes)
    journal = Journal(ROOT, blocks, bits)
    assert parse_journal(pack_journal(journal), ROOT, blocks) == journal


def test_damage_is_noticed() -> None:
    good = pack_journal(Journal(ROOT, 11, 0b101))
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RejectedError) as caught:
            parse_journal(bytes(bad), ROOT, 11)
        assert caught.value.reason is RejectReason.DIGEST_MISMATCH
    for length in range(len(good)):
        with pytest.raises(RejectedError):
            parse_journal(good[:length], ROOT, 11)


def test_a_journal_of_another_transfer_is_not_taken() -> None:
    good = pack_journal(Journal(ROOT, 11, 0))
    for root, blocks in ((Root(b"x" * 32), 11), (ROOT, 12)):
        with pytest.raises(RejectedError, match="not of the transfer"):
            parse_journal(good, root, blocks)


def test_bits_that_no_block_has() -> None:
    with pytest.raises(OverflowError):
        packed_bits(0b1000, 3)
    for bad in (b"\x08", b"", b"\0\0"):
        with pytest.raises(RejectedError, match="wanted"):
            unpacked_bits(bad, 3, "wanted")
