"""The content digest: what changes it, and what must not."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import torch
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.checkpoints.digest import ContentDigest, content_digest, fingerprint
from mergenode.errors import TransientError
from mergenode.types import DType
from tests.support.checkpoints import (
    Tensors,
    base_tensors,
    finetuned,
    lora_tensors,
    write_adapter,
    write_file,
    write_json,
    write_sharded,
    write_single,
)

UP = "model.layers.0.mlp.up_proj.weight"


def test_files_shards_names_and_headers_do_not_matter(tmp_path: Path) -> None:
    tensors = base_tensors()
    backwards = dict(reversed(tensors.items()))
    digests = {
        content_digest(write_single(tmp_path / "single", tensors)),
        content_digest(write_single(tmp_path / "backwards", backwards, {"other": "config"})),
        content_digest(write_sharded(tmp_path / "two", tensors, 2)),
        content_digest(write_sharded(tmp_path / "four", backwards, 4)),
        content_digest(write_file(tmp_path / "bare.safetensors", tensors)),
    }
    assert len(digests) == 1


def _changed(name: str) -> Tensors:
    tensors = base_tensors()
    if name == "value":
        tensors[UP].view(-1)[-1] += 1
    elif name == "type":
        tensors[UP] = tensors[UP].view(torch.int16)
    elif name == "shape":
        tensors[UP] = tensors[UP].reshape(32, 64)
    elif name == "name":
        tensors["model.other"] = tensors.pop(UP)
    elif name == "more":
        tensors["model.nothing"] = torch.zeros(0)
    else:
        del tensors["model.empty"]
    return tensors


def test_every_change_of_content_matters(tmp_path: Path) -> None:
    digests = {content_digest(write_single(tmp_path / "base", base_tensors()))}
    for name in ("value", "type", "shape", "name", "more", "fewer"):
        digests.add(content_digest(write_single(tmp_path / name, _changed(name))))
    assert len(digests) == 7


def test_settings_that_change_the_meaning_of_an_adapter_matter(tmp_path: Path) -> None:
    def digest(name: str, **settings: object) -> str:
        return content_digest(write_adapter(tmp_path / name, lora_tensors(), **settings))

    plain = digest("plain")
    assert digest("described", base_model_name_or_path="elsewhere", lora_dropout=0.5, task_type=None) == plain
    assert digest("spelled", lora_alpha=8.0) == plain
    others = {
        digest("alpha", lora_alpha=16),
        digest("rank_stable", use_rslora=True),
        digest("pattern", alpha_pattern={"q_proj": 4}),
        digest("ordered", alpha_pattern={"q_proj": 4, "proj": 8}),
        digest("ordered_otherwise", alpha_pattern={"proj": 8, "q_proj": 4}),
        digest("turned", fan_in_fan_out=True),
        plain,
    }
    assert len(others) == 7


TENSORS = st.dictionaries(
    st.text(min_size=1, max_size=5),
    st.tuples(st.sampled_from(DType), st.lists(st.integers(0, 9), max_size=3)),
    max_size=5,
)


@given(TENSORS, TENSORS, st.integers(0, 1000), st.binary(max_size=3))
@settings(deadline=None, max_examples=150)
def test_equal_exactly_when_the_tensors_are(
    first: dict[str, tuple[DType, list[int]]], second: dict[str, tuple[DType, list[int]]], seed: int, extra: bytes
) -> None:
    def digest(tensors: dict[str, tuple[DType, list[int]]], order: random.Random) -> str:
        content = ContentDigest()
        for name in order.sample(sorted(tensors), len(tensors)):
            content.add(name, tensors[name][0], tuple(tensors[name][1]), blake3(name.encode()).digest())
        return content.finish(extra)

    assert digest(first, random.Random(seed)) == digest(first, random.Random(seed + 1))
    assert (digest(first, random.Random(0)) == digest(second, random.Random(0))) == (first == second)


def test_a_tensor_is_added_once() -> None:
    content = ContentDigest()
    content.add("a", DType.F32, (1,), bytes(32))
    with pytest.raises(ValueError, match="'a'"):
        content.add("a", DType.F32, (1,), bytes(32))


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    tensors = {"a": torch.zeros(3 << 20), "b": torch.zeros(5)}  # 12 MiB: several buffers
    content_digest(write_single(tmp_path / "x", tensors), progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (12 * (1 << 20) + 20, 12 * (1 << 20) + 20)
    assert len(told) == 4


def test_a_change_during_the_pass_is_noticed(tmp_path: Path) -> None:
    path = write_single(tmp_path / "x", base_tensors())
    with pytest.raises(TransientError):
        content_digest(path, progress=lambda done, total: os.utime(path / "model.safetensors", ns=(1, 1)))


def test_the_fingerprint_follows_the_files(tmp_path: Path) -> None:
    path = write_sharded(tmp_path / "x", base_tensors())
    first = fingerprint(path)
    assert fingerprint(path) == first
    write_json(path / "config.json", {"tie_word_embeddings": False})
    assert (second := fingerprint(path)) != first
    write_sharded(path, finetuned(base_tensors()))
    assert fingerprint(path) not in (first, second)
