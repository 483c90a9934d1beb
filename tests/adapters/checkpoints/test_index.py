"""The index of a sharded checkpoint."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.checkpoints.index import parse_index
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.errors import RejectedError, RejectReason


def _parse(value: object, limits: Limits | None = None) -> dict[str, str]:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return parse_index(text, file="x.index.json", limits=limits or Limits())


@given(
    st.dictionaries(st.text(min_size=1, max_size=30), st.sampled_from(["a.safetensors", "b.safetensors"]), min_size=1)
)
@settings(deadline=None, max_examples=100)
def test_reads_what_was_written(weight_map: dict[str, str]) -> None:
    assert _parse({"metadata": {"total_size": 12, "deep": [[{"a": None}]]}, "weight_map": weight_map}) == weight_map


@given(st.binary(max_size=120))
@settings(deadline=None, max_examples=200)
def test_anything_else_is_refused(text: bytes) -> None:
    with pytest.raises(RejectedError):
        _parse(b'{"weight_map":{"a":' + text)


@pytest.mark.parametrize(
    "shard",
    ["../a.safetensors", "/a.safetensors", "b/a.safetensors", "b\\a.safetensors", ".a.safetensors", "a.bin", "",
     "a\n.safetensors", "a\x00.safetensors", "..", "x" * 300 + ".safetensors"],
)  # fmt: skip
def test_shard_names_are_plain(shard: str) -> None:
    with pytest.raises(RejectedError, match=r"'the\.tensor'") as caught:
        _parse({"weight_map": {"the.tensor": shard}})
    assert caught.value.reason is RejectReason.SHARD_NAME_UNSAFE


@pytest.mark.parametrize(
    "value", [{}, {"weight_map": {}}, {"weight_map": []}, {"weight_map": {"a": 1}}, [], b"", b"{}{}"]
)
def test_needs_a_weight_map(value: object) -> None:
    with pytest.raises(RejectedError) as caught:
        _parse(value)
    assert caught.value.reason is RejectReason.INDEX_INVALID


def test_keys_may_not_come_twice() -> None:
    for text in (b'{"weight_map":{"a":"x.safetensors","a":"x.safetensors"}}',
                 b'{"weight_map":{"a":"x.safetensors"},"weight_map":{"a":"x.safetensors"}}'):  # fmt: skip
        with pytest.raises(RejectedError, match="twice"):
            _parse(text)


def test_caps() -> None:
    shards = {f"t{number}": f"s{number}.safetensors" for number in range(4)}
    with pytest.raises(RejectedError) as caught:
        _parse({"weight_map": shards}, Limits(tensors=3))
    assert caught.value.reason is RejectReason.TOO_MANY_TENSORS
    with pytest.raises(RejectedError) as caught:
        _parse({"weight_map": shards}, Limits(files=3))
    assert caught.value.reason is RejectReason.TOO_LARGE
