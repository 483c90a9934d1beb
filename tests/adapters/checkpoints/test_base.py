"""The description of a base model: one bounded pass, the same facts on every machine."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path

import pytest
import torch
from blake3 import blake3

from mergenode.adapters.checkpoints.base import BaseModel, describe_base
from mergenode.adapters.checkpoints.base_cache import base_of
from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.errors import RejectedError, RejectReason
from mergenode.ports.observer import Observer
from tests.support.checkpoints import (
    EMBED,
    Tensors,
    base_tensors,
    lora_tensors,
    write_adapter,
    write_file,
    write_sharded,
    write_single,
)


def test_every_fact(base: BaseModel, base_dir: Path, base_values: Tensors) -> None:
    assert set(base.specs) == set(base_values)
    assert base.aliases == {"lm_head.weight": f"{EMBED}.weight"}
    assert base.digest == content_digest(base_dir)
    matrices = [value for name, value in base_values.items()
                if value.is_floating_point() and value.ndim >= 2 and name != "lm_head.weight"]  # fmt: skip
    norm = math.sqrt(sum(float((value.double() ** 2).sum()) for value in matrices))
    assert base.matrix_norm == pytest.approx(norm, rel=1e-12)
    for name, value in base_values.items():
        raw = value.reshape(-1).view(torch.uint8).numpy().tobytes()
        assert base.tensor_digests[name] == f"blake3:{blake3(raw).hexdigest()}"
        if value.is_floating_point():
            assert base.squared_norms[name] == pytest.approx(float((value.double() ** 2).sum()), rel=1e-12)


def test_sharding_changes_only_the_order(base: BaseModel, base_values: Tensors, tmp_path: Path) -> None:
    sharded = describe_base(write_sharded(tmp_path / "x", base_values, 3))
    assert sharded == base  # dictionaries compare without order
    assert list(sharded.specs) != list(base.specs)


def test_survives_json(base: BaseModel) -> None:
    again = BaseModel.from_json(base.to_json())
    assert again == base
    assert list(again.specs) == list(base.specs)
    for text in ("", "{}", "[]", '{"schema": "other"}', base.to_json().replace('"BF16"', '"BF17"')):
        with pytest.raises(ValueError, match=r"."):
            BaseModel.from_json(text)


def _model(first: str, second: str, values: torch.Tensor) -> Tensors:
    return {first: values, second: values.clone(), "other": torch.ones(64, 32)}


MATRIX = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
BLOCK = "layers.0.proj.weight"


@pytest.mark.parametrize(
    ("first", "second", "values", "primary"),
    [
        ("lm_head.weight", "model.embed_tokens.weight", MATRIX, "model.embed_tokens.weight"),
        ("lm_head.weight", "transformer.wte.weight", MATRIX, "transformer.wte.weight"),
        ("shared.weight", "encoder.embed_tokens.weight", MATRIX, "encoder.embed_tokens.weight"),
        ("b.weight", "a.weight", MATRIX, "a.weight"),
        ("head.2.weight", "a.weight", MATRIX, "a.weight"),
        ("layers.1.proj.weight", BLOCK, MATRIX, None),  # a copied layer
        ("experts.0.w", "experts.1.w", MATRIX, None),
        ("b.weight", "a.weight", MATRIX[:31], None),  # 992 elements
        ("b.weight", "a.weight", torch.ones(64, 32), None),
        ("b.weight", "a.weight", MATRIX.reshape(-1), None),
        ("b.weight", "a.weight", MATRIX.to(torch.int32), None),
    ],
)
def test_ties(tmp_path: Path, first: str, second: str, values: torch.Tensor, primary: str | None) -> None:
    base = describe_base(write_single(tmp_path / "x", _model(first, second, values)))
    expected = {} if primary is None else {first if primary == second else second: primary}
    assert base.aliases == expected


def test_three_names_of_one_weight(tmp_path: Path) -> None:
    tensors = {name: MATRIX.clone() for name in ("shared.weight", "encoder.embed_tokens.weight", "lm_head.weight")}
    base = describe_base(write_single(tmp_path / "x", tensors))
    assert set(base.aliases.values()) == {"encoder.embed_tokens.weight"}
    assert len(base.aliases) == 2


def test_a_model_that_says_it_does_not_tie(tmp_path: Path) -> None:
    tensors = _model("lm_head.weight", "model.embed_tokens.weight", MATRIX)
    base = describe_base(write_single(tmp_path / "x", tensors, {"tie_word_embeddings": False}))
    assert base.aliases == {}
    assert base.matrix_norm == pytest.approx(math.sqrt(2 * float((MATRIX.double() ** 2).sum()) + 64 * 32))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_base_must_be_finite(tmp_path: Path, value: float) -> None:
    tensors = base_tensors()
    tensors["model.norm.weight"][3] = value
    with pytest.raises(RejectedError, match=r"model.safetensors: tensor 'model.norm.weight'") as caught:
        describe_base(write_single(tmp_path / "x", tensors))
    assert caught.value.reason is RejectReason.NOT_FINITE


def test_an_adapter_is_no_base(tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match="adapter"):
        describe_base(write_adapter(tmp_path / "x", lora_tensors()))


def test_a_broken_configuration(tmp_path: Path) -> None:
    path = write_single(tmp_path / "x", base_tensors())
    (path / "config.json").write_text("{")
    with pytest.raises(RejectedError) as caught:
        describe_base(path)
    assert caught.value.reason is RejectReason.CONFIG_INVALID


def test_a_snapshot_of_the_hub_cache(tmp_path: Path, base: BaseModel, base_values: Tensors) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "123"
    snapshot.mkdir(parents=True)
    write_file(tmp_path / "models--a--b" / "blobs" / "abc", base_values)
    (snapshot / "model.safetensors").symlink_to("../../blobs/abc")
    assert describe_base(snapshot) == base


def test_memory_stays_bounded_for_large_tensors(tmp_path: Path) -> None:
    path = write_single(tmp_path / "x", {"a": torch.ones(16 << 20, dtype=torch.bfloat16)})  # 32 MiB
    tracemalloc.start()
    try:
        describe_base(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


class _Counting(Observer):
    """Counts progress; nothing else is ever called."""

    def __init__(self) -> None:
        self.calls = 0

    def progress(self, progress: object) -> None:
        self.calls += 1


def test_the_cache_spares_the_pass_until_the_files_change(tmp_path: Path) -> None:
    path, cache = write_single(tmp_path / "x", base_tensors()), tmp_path / "base.json"
    limits_and = {"cache": cache, "limits": describe_base.__kwdefaults__["limits"]}
    first, second, third = _Counting(), _Counting(), _Counting()
    base = base_of(path, observer=first, **limits_and)
    assert first.calls > 0
    assert base_of(path, observer=second, **limits_and) == base
    assert second.calls == 0
    write_single(path, base_tensors(seed=9))
    assert base_of(path, observer=third, **limits_and).digest != base.digest
    assert third.calls > 0
    for broken in ("", "{}", json.dumps({"fingerprint": 1}), cache.read_text()[:-20]):
        cache.write_text(broken)
        assert base_of(path, observer=_Counting(), **limits_and).digest != base.digest
