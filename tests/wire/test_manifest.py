"""Manifests: equal bytes for equal content, read back strictly, never more memory than they are long."""

from __future__ import annotations

import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.errors import RejectedError, RejectReason
from mergenode.types import DType, TensorSpec
from mergenode.wire.blocks import BLOCK_BYTES, Root, block_id
from mergenode.wire.limits import WireLimits
from mergenode.wire.manifest import MAGIC, Manifest, TensorEntry
from mergenode.wire.manifest_reading import parse_manifest
from mergenode.wire.packing import packed_float, packed_number, packed_text
from tests.support.wire_models import Model, described, flat, model_of, models

ONE = model_of(("w", DType.F32, np.arange(6, dtype="<f4").tobytes()))
HEAD = MAGIC + b"\0"


def refused(data: bytes, limits: WireLimits | None = None) -> RejectReason:
    with pytest.raises(RejectedError) as caught:
        parse_manifest(data, None, limits or WireLimits())
    assert caught.value.message.startswith("manifest")
    return caught.value.reason


def tensor(
    name: str = "w", code: int = 1, shape: tuple[int, ...] = (2,), figures: tuple[int, float, float] = (1, 1.0, 1.0)
) -> bytes:
    form = bytes([code, len(shape)]) + b"".join(packed_number(length, 8) for length in shape)
    finite, norm, largest = figures
    return packed_text(name) + form + bytes([finite]) + packed_float(norm) + packed_float(largest)


def manifest(*tensors: bytes, count: int | None = None) -> bytes:
    return HEAD + packed_number(len(tensors) if count is None else count, 4) + b"".join(tensors)


@settings(deadline=None, max_examples=60)
@given(models(), st.randoms(use_true_random=False), st.none() | st.binary(min_size=32, max_size=32))
def test_equal_content_gives_equal_bytes_in_any_order(model: Model, order: random.Random, base: Root | None) -> None:
    shuffled = list(model.items())
    order.shuffle(shuffled)
    made = described(model, base)
    assert described(dict(shuffled), base).packed == made.packed
    again = parse_manifest(made.packed, made.root)
    assert again == made and again.packed == made.packed and again.schema_hash == made.schema_hash


@settings(deadline=None, max_examples=60)
@given(models(), st.data())
def test_bytes_that_are_read_pack_to_themselves(model: Model, data: st.DataObject) -> None:
    """Any change of any byte is refused or is another manifest; there are no two spellings."""
    packed = bytearray(described(model).packed)
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        read = parse_manifest(bytes(packed))
    except RejectedError:
        return
    assert read.packed == bytes(packed)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200))
def test_garbage_is_refused_with_a_reason(garbage: bytes) -> None:
    for data in (garbage, HEAD + garbage, manifest(garbage)):
        try:
            read = parse_manifest(data)
        except RejectedError:
            continue
        assert read.packed == data


def test_every_flipped_bit_is_noticed_against_the_root() -> None:
    made = described(ONE)
    for bit in range(len(made.packed) * 8):
        bad = bytearray(made.packed)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RejectedError) as caught:
            parse_manifest(bytes(bad), made.root)
        assert caught.value.reason is RejectReason.DIGEST_MISMATCH


def test_every_cut_is_noticed() -> None:
    packed = described(ONE).packed
    for length in range(len(packed)):
        refused(packed[:length])
    assert refused(packed + b"\0") is RejectReason.HEADER_INVALID


def test_lies_about_sizes_and_counts() -> None:
    ids = b"\0" * 32
    assert refused(manifest(count=2**32 - 1)) is RejectReason.TOO_MANY_TENSORS
    assert refused(manifest(tensor() + ids, count=4)) is RejectReason.TOO_MANY_TENSORS  # no room for more than two
    assert refused(manifest(tensor() + ids), WireLimits(tensors=0)) is RejectReason.TOO_MANY_TENSORS
    assert refused(manifest(tensor(shape=(2**63, 2**63)))) is RejectReason.TOO_LARGE
    assert refused(manifest(tensor(shape=(2**40,)))) is RejectReason.HEADER_INVALID  # of 500,000 ids, none is there
    assert refused(manifest(tensor() + ids), WireLimits(model_bytes=7)) is RejectReason.TOO_LARGE
    assert refused(manifest(tensor() + ids), WireLimits(manifest_bytes=20)) is RejectReason.HEADER_TOO_LARGE
    assert refused(manifest(tensor(shape=(1,) * 33) + ids)) is RejectReason.HEADER_INVALID


def test_lies_about_names_and_types() -> None:
    ids = b"\0" * 32
    assert refused(manifest(tensor("b") + ids, tensor("a") + ids)) is RejectReason.HEADER_INVALID
    assert refused(manifest(tensor("a") + ids, tensor("a") + ids)) is RejectReason.TENSOR_DUPLICATED
    for name in ("../w", "a//b", "/w", "__metadata__", "a\\..\\b"):
        assert refused(manifest(tensor(name) + ids)) is RejectReason.NAME_INVALID
    for name in ("", " w", "a\nb", "w" * 513):
        assert refused(manifest(tensor(name) + ids)) is RejectReason.HEADER_INVALID
    assert refused(manifest(tensor("w").replace(b"w", b"\xff") + ids)) is RejectReason.HEADER_INVALID
    assert refused(manifest(tensor(code=10) + ids)) is RejectReason.DTYPE_UNSUPPORTED


@pytest.mark.parametrize("figures", [(1, 0.5, 1.0), (1, 1.5, 1.0), (1, -1.0, -1.0), (2, 1.0, 1.0), (1, 1.0, 0.0)])
def test_figures_that_no_values_have(figures: tuple[int, float, float]) -> None:
    assert refused(manifest(tensor(figures=figures) + b"\0" * 32)) is RejectReason.HEADER_INVALID


def test_figures_of_what_is_not_measured() -> None:
    assert refused(manifest(tensor(code=5) + b"\0" * 32)) is RejectReason.HEADER_INVALID
    assert refused(manifest(tensor(shape=(0,)))) is RejectReason.HEADER_INVALID


def test_special_numbers_are_not_figures() -> None:
    good = manifest(tensor() + b"\0" * 32)
    one = packed_float(1.0)
    for bits in (0x7FF0000000000000, 0x7FF8000000000000, 0x8000000000000000):
        assert refused(good.replace(one, packed_number(bits, 8))) is RejectReason.HEADER_INVALID


def test_a_hostile_manifest_costs_no_more_than_its_length() -> None:
    data = manifest(tensor(shape=(2**44,)), count=10)
    tracemalloc.start()
    refused(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_blocks_are_aligned_to_tensors() -> None:
    long = np.arange(BLOCK_BYTES // 2 + 3, dtype="<u2").tobytes()
    model = model_of(
        ("b", DType.BF16, long), ("a", DType.U8, b"xyz"), ("empty", DType.F32, b""), ("i", DType.I64, b"8" * 8)
    )
    made = described(model)
    data, at = flat(made, model), 0
    for index, place in enumerate(made.places()):
        assert made.place(index) == place and place.index == index and place.offset == at
        assert place.id == block_id(data[at : at + place.length])
        at += place.length
    assert at == made.total_bytes == len(data) and made.block_count == 4
    assert [place.length for place in made.places()] == [3, BLOCK_BYTES, 6, 8]
    with pytest.raises(IndexError):
        made.place(4)


def test_ids_depend_on_content_type_and_shape_alone() -> None:
    def entry(name: str, dtype: DType, shape: tuple[int, ...], fill: bytes) -> TensorEntry:
        return TensorEntry(TensorSpec(name, dtype, shape), fill * 32)

    first = entry("a", DType.F32, (2, 3), b"x")
    assert first.tensor_id == entry("b", DType.F32, (2, 3), b"x").tensor_id
    others = [
        entry("a", DType.I32, (2, 3), b"x"),
        entry("a", DType.F32, (3, 2), b"x"),
        entry("a", DType.F32, (2, 3), b"y"),
    ]
    assert len({first.tensor_id, *(other.tensor_id for other in others)}) == 4
    schema = Manifest((first,)).schema_hash
    assert [Manifest((other,)).schema_hash == schema for other in others] == [False, False, True]


def test_a_root_is_a_promise() -> None:
    """The same content has the same root in every version of the protocol."""
    assert described(ONE).root.hex() == "8c322ceba76e47afbb0d1851c63aaa661b027de00d7d187e081b0964e0f32f2a"
