"""Blocks come back exactly, small where little changed, and a lying payload never gets room."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.errors import RejectedError, RejectReason
from mergenode.types import DType
from mergenode.wire.blocks import BLOCK_BYTES, block_id
from mergenode.wire.encoding import Encoded, Encoding, decode_block, encode_block
from mergenode.wire.v1 import objects_pb2
from tests.support.wire_models import fine_tuned_bf16

DIFFERENCES = [Encoding.XOR_SPLIT_ZSTD, Encoding.ORDERED_SPLIT_ZSTD]


def refused(encoded: Encoded, length: int, base: bytes | None = None) -> RejectReason:
    with pytest.raises(RejectedError) as caught:
        decode_block(encoded, DType.BF16, length, base)
    assert caught.value.message.startswith("block: ") and caught.value.hint
    return caught.value.reason


@st.composite
def changed_blocks(draw: st.DrawFn) -> tuple[DType, bytes, bytes]:
    """Any bits, and the same with a few elements replaced: long enough for compression to pay."""
    dtype = draw(st.sampled_from(DType))
    seed, count = draw(st.integers(0, 2**32)), draw(st.integers(1, 600))
    base = np.random.default_rng(seed).bytes(count * dtype.size)
    block = bytearray(base)
    for element in draw(st.lists(st.integers(0, count - 1), max_size=5)):
        block[element * dtype.size : (element + 1) * dtype.size] = draw(
            st.binary(min_size=dtype.size, max_size=dtype.size)
        )
    return dtype, bytes(block), base


@settings(deadline=None, max_examples=120)
@given(changed_blocks(), st.sets(st.sampled_from(Encoding)), st.booleans())
def test_every_type_comes_back_exactly(case: tuple[DType, bytes, bytes], accept: set[Encoding], has_base: bool) -> None:
    dtype, block, base = case
    encoded = encode_block(block, dtype, base if has_base else None, accept)
    assert encoded.encoding in accept | {Encoding.RAW}
    assert has_base or not encoded.encoding.needs_base
    assert len(encoded.payload) <= len(block)
    assert decode_block(encoded, dtype, len(block), base if has_base else None) == block


@pytest.mark.parametrize("encoding", DIFFERENCES)
@pytest.mark.parametrize("dtype", [DType.F64, DType.F32, DType.BF16, DType.F16])
def test_nan_payloads_and_minus_zero_come_back(encoding: Encoding, dtype: DType) -> None:
    special = [0, 1 << (8 * dtype.size - 1), -1, 0x7FC1 << (8 * dtype.size - 16), 0xFFC1 << (8 * dtype.size - 16)]
    raw = b"".join((value % (1 << 8 * dtype.size)).to_bytes(dtype.size, "little") for value in special)
    base, block = raw * 200, (raw[dtype.size :] + raw[: dtype.size]) * 200
    encoded = encode_block(block, dtype, base, {encoding})
    assert encoded.encoding is encoding
    assert decode_block(encoded, dtype, len(block), base) == block


def test_a_light_fine_tune_travels_in_a_quarter_of_its_bytes() -> None:
    base, block = fine_tuned_bf16((1 << 20,), 0.003, seed=0)
    shares = {}
    for accept in [*DIFFERENCES, Encoding.SPLIT_ZSTD]:
        encoded = encode_block(block, DType.BF16, base, {accept})
        assert decode_block(encoded, DType.BF16, len(block), base) == block
        shares[accept] = len(encoded.payload) / len(block)
    assert shares[Encoding.ORDERED_SPLIT_ZSTD] < 0.22
    assert shares[Encoding.XOR_SPLIT_ZSTD] < 0.25
    assert 0.65 < shares[Encoding.SPLIT_ZSTD] < 0.75
    assert encode_block(block, DType.BF16, base).encoding is Encoding.ORDERED_SPLIT_ZSTD
    assert len(encode_block(base, DType.BF16, base).payload) < 1000


def test_what_does_not_pay_stays_as_it_is() -> None:
    noise = np.random.default_rng(0).bytes(1 << 16)
    other = np.random.default_rng(1).bytes(1 << 16)
    assert encode_block(noise, DType.BF16, other) == Encoded(Encoding.RAW, noise)
    assert encode_block(noise, DType.U8) == Encoded(Encoding.RAW, noise)
    saves_little = noise[:-2000] + bytes(2000)
    assert encode_block(saves_little, DType.U8) == Encoded(Encoding.RAW, saves_little)
    saves_enough = noise[:-6000] + bytes(6000)
    assert encode_block(saves_enough, DType.U8).encoding is Encoding.SPLIT_ZSTD
    _, weights = fine_tuned_bf16((1 << 15,), 0.1, seed=1)
    assert encode_block(weights, DType.BF16, other).encoding is Encoding.SPLIT_ZSTD


def test_every_flipped_bit_is_caught() -> None:
    base, tuned = fine_tuned_bf16((160,), 0.003, seed=2)
    for encoding in Encoding:
        block = np.arange(160, dtype="<u2").tobytes() if encoding is Encoding.SPLIT_ZSTD else tuned
        encoded = encode_block(block, DType.BF16, base, {encoding})
        assert encoded.encoding is encoding
        for bit in range(8 * len(encoded.payload)):
            bad = bytearray(encoded.payload)
            bad[bit // 8] ^= 1 << bit % 8
            try:
                data = decode_block(Encoded(encoding, bytes(bad)), DType.BF16, len(block), base)
            except RejectedError:
                continue
            assert data == block or block_id(data) != block_id(block)


def test_lies_about_the_length() -> None:
    block = bytes(4096)
    frame = encode_block(block, DType.BF16).payload
    assert refused(Encoded(Encoding.RAW, block), 4094) is RejectReason.SIZE_MISMATCH
    assert refused(Encoded(Encoding.SPLIT_ZSTD, frame), 4094) is RejectReason.SIZE_MISMATCH
    assert refused(Encoded(Encoding.SPLIT_ZSTD, block), 4096) is RejectReason.SIZE_MISMATCH
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(block)
    assert refused(Encoded(Encoding.SPLIT_ZSTD, unsized), 4096) is RejectReason.SIZE_MISMATCH
    for garbage in (b"", b"garbage", frame[:-1], frame + b"\0", frame + frame):
        assert refused(Encoded(Encoding.SPLIT_ZSTD, garbage), 4096) is RejectReason.DIGEST_MISMATCH


def test_a_bomb_costs_no_more_than_the_block() -> None:
    """The frame says 4096 bytes, as announced, and holds half a gigabyte; or says so and is believed not."""
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(1 << 29))
    truth = zstandard.get_frame_parameters(bomb)
    header = zstandard.frame_header_size(bomb)
    lie = zstandard.ZstdCompressor(level=1).compress(bytes(4096))
    lying = lie[: zstandard.frame_header_size(lie)] + bomb[header:]
    assert truth.content_size == 1 << 29 and len(lying) < BLOCK_BYTES
    tracemalloc.start()
    assert refused(Encoded(Encoding.SPLIT_ZSTD, bomb), BLOCK_BYTES) is RejectReason.SIZE_MISMATCH
    assert refused(Encoded(Encoding.SPLIT_ZSTD, lying), 1 << 16) is RejectReason.SIZE_MISMATCH
    assert refused(Encoded(Encoding.SPLIT_ZSTD, lying[:4000]), 4096) is RejectReason.DIGEST_MISMATCH
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_window_beyond_a_block_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(4096))
    window = bytes([(27 - 10) << 3])  # the exponent in the upper five bits (RFC 8878, 3.1.1.1.2)
    forged = frame[:4] + b"\xc0" + window + (4096).to_bytes(8, "little") + frame[6:]  # 0xc0: content size in 8 bytes
    assert zstandard.get_frame_parameters(forged).window_size == 1 << 27
    assert refused(Encoded(Encoding.SPLIT_ZSTD, forged), 4096) is RejectReason.TOO_LARGE


def test_a_difference_needs_its_base() -> None:
    base, block = fine_tuned_bf16((160,), 0.003, seed=2)
    encoded = encode_block(block, DType.BF16, base)
    for wrong in (None, base[2:]):
        with pytest.raises(ValueError, match="needs a base of 320 bytes"):
            decode_block(encoded, DType.BF16, len(block), wrong)
    for bad in (b"", b"abc", bytes(BLOCK_BYTES + 2)):
        with pytest.raises(ValueError, match="a block of"):
            encode_block(bad, DType.BF16)


def test_encodings_are_those_of_the_protocol() -> None:
    numbers = {f"ENCODING_{encoding.name}": encoding.value for encoding in Encoding}
    assert {"ENCODING_UNSPECIFIED": 0, **numbers} == dict(objects_pb2.Encoding.items())
