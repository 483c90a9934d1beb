"""LoRA adapters: every delta equals the published formula, written out literally."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from mergenode.adapters.checkpoints.base import BaseModel, describe_base
from mergenode.adapters.checkpoints.contribution import Dense, LowRank, open_contribution
from mergenode.errors import RejectedError, RejectReason
from mergenode.types import Kind
from tests.support.checkpoints import (
    CONV,
    EMBED,
    Q_PROJ,
    UP_PROJ,
    Tensors,
    lora_pair,
    lora_tensors,
    write_adapter,
    write_single,
)
from tests.support.materialised import deltas

PREFIX = "base_model.model."


def _deltas(path: Path, base: BaseModel, values: Tensors) -> Tensors:
    with open_contribution(path, base) as contribution:
        assert contribution.kind is Kind.ADAPTER
        return deltas(contribution, values)


def _ba(tensors: Tensors, module: str, scale: float) -> torch.Tensor:
    left, right = (tensors[f"{PREFIX}{module}.lora_{side}.weight"].double() for side in "BA")
    return scale * left @ right


def _same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_linear(tmp_path: Path, base: BaseModel, base_values: Tensors) -> None:
    tensors = lora_tensors()
    found = _deltas(write_adapter(tmp_path / "x", tensors), base, base_values)
    assert set(found) == {f"{Q_PROJ}.weight", f"{UP_PROJ}.weight"}
    for module in (Q_PROJ, UP_PROJ):
        assert _same(found[f"{module}.weight"], _ba(tensors, module, 8 / 4))


def test_factors_are_named_not_multiplied(tmp_path: Path, base: BaseModel) -> None:
    with open_contribution(write_adapter(tmp_path / "x", lora_tensors()), base) as contribution:
        key = f"{PREFIX}{UP_PROJ}"
        expected = LowRank(f"{key}.lora_B.weight", False, f"{key}.lora_A.weight", False, 2.0, 4)
        assert contribution.entries[f"{UP_PROJ}.weight"] == expected
        assert list(contribution.entries) == [name for name in base.specs if name in contribution.entries]
        assert contribution.canonical_config


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({"use_rslora": True}, 8 / math.sqrt(4)),
        ({"lora_alpha": 0.5}, 0.5 / 4),
        ({"lora_alpha": 0}, 0.0),
        ({"lora_alpha": -8}, -2.0),
        ({"alpha_pattern": {"up_proj": 32}}, 32 / 4),
        ({"alpha_pattern": {"up_proj": 32}, "use_rslora": True}, 32 / math.sqrt(4)),
        ({"alpha_pattern": {"0.mlp.up_proj": 32, "up_proj": 64}}, 32 / 4),
        ({"alpha_pattern": {"p_proj": 32}}, 8 / 4),
        ({"alpha_pattern": {r".*\.(up|gate)_proj": 32}}, 32 / 4),
        ({"r": 64, "rank_pattern": {"q_proj": 4, "^model.layers.0.mlp.up_proj": 4}}, 8 / 4),
    ],
)
def test_scales(tmp_path: Path, base: BaseModel, base_values: Tensors, settings: dict[str, Any], scale: float) -> None:
    tensors = lora_tensors()
    found = _deltas(write_adapter(tmp_path / "x", tensors, **settings), base, base_values)
    assert _same(found[f"{UP_PROJ}.weight"], _ba(tensors, UP_PROJ, scale))


def test_ranks_per_module(tmp_path: Path, base: BaseModel, base_values: Tensors) -> None:
    tensors = lora_pair(Q_PROJ, 32, 32, rank=4) | lora_pair(UP_PROJ, 64, 32, rank=9)
    path = write_adapter(tmp_path / "x", tensors, rank_pattern={"up_proj": 9}, alpha_pattern={"up_proj": 3})
    found = _deltas(path, base, base_values)
    assert _same(found[f"{Q_PROJ}.weight"], _ba(tensors, Q_PROJ, 8 / 4))
    assert _same(found[f"{UP_PROJ}.weight"], _ba(tensors, UP_PROJ, 3 / 9))


@pytest.mark.parametrize(
    "rename",
    [
        lambda key: key.removeprefix(PREFIX),
        lambda key: key.replace(".weight", ".default.weight"),
        lambda key: key.replace(".weight", ".my_adapter.weight").removeprefix(PREFIX),
        lambda key: key.replace("model.layers", "layers"),
        lambda key: key.replace("model.layers", "transformer.model.layers"),
    ],
)
def test_key_forms(tmp_path: Path, base: BaseModel, base_values: Tensors, rename: Any) -> None:
    tensors = lora_tensors()
    renamed = {rename(key): value for key, value in tensors.items()}
    found = _deltas(write_adapter(tmp_path / "x", renamed), base, base_values)
    assert _same(found[f"{UP_PROJ}.weight"], _ba(tensors, UP_PROJ, 2.0))


def test_a_weight_stored_in_by_out(tmp_path: Path) -> None:
    """Conv1D of GPT-2: the delta is transposed; the square weight follows the other, not the unreliable flag."""
    values = {"h.0.attn.c_attn.weight": torch.randn(32, 96), "h.0.attn.c_proj.weight": torch.randn(32, 32)}
    base = describe_base(write_single(tmp_path / "base", values))
    tensors = lora_pair("h.0.attn.c_attn", 96, 32) | lora_pair("h.0.attn.c_proj", 32, 32)
    for flag in (True, False):
        path = write_adapter(tmp_path / f"{flag}", tensors, target_modules=["c_attn", "c_proj"], fan_in_fan_out=flag)
        found = _deltas(path, base, values)
        for module in ("h.0.attn.c_attn", "h.0.attn.c_proj"):
            assert _same(found[f"{module}.weight"], _ba(tensors, module, 2.0).T)


@pytest.mark.parametrize("flag", [True, False])
def test_a_square_weight_alone_follows_the_flag(
    tmp_path: Path, base: BaseModel, base_values: Tensors, flag: bool
) -> None:
    tensors = lora_pair(Q_PROJ, 32, 32)
    found = _deltas(write_adapter(tmp_path / "x", tensors, fan_in_fan_out=flag), base, base_values)
    expected = _ba(tensors, Q_PROJ, 2.0)
    assert _same(found[f"{Q_PROJ}.weight"], expected.T if flag else expected)


def test_square_weights_among_both_kinds(tmp_path: Path) -> None:
    values = {"h.wide.weight": torch.randn(32, 96), "h.proj.weight": torch.randn(32, 32),
              "g.proj.weight": torch.randn(32, 64), "head.weight": torch.randn(48, 32)}  # fmt: skip
    base = describe_base(write_single(tmp_path / "base", values))
    mixed = lora_pair("h.wide", 96, 32) | lora_pair("head", 48, 32) | lora_pair("h.proj", 32, 32)
    with pytest.raises(RejectedError, match=r"h\.proj") as caught:
        open_contribution(write_adapter(tmp_path / "x", mixed, target_modules=None), base)
    assert caught.value.reason is RejectReason.ADAPTER_UNSUPPORTED
    told = mixed | lora_pair("g.proj", 64, 32)  # a sister of the same name that is not square
    found = _deltas(write_adapter(tmp_path / "y", told, target_modules=None), base, values)
    assert _same(found["h.proj.weight"], _ba(told, "h.proj", 2.0).T)


def _embedding_pair(rows: int = 48, columns: int = 32) -> Tensors:
    draw = torch.Generator().manual_seed(5)
    return {
        f"{PREFIX}{EMBED}.lora_embedding_A": torch.randn(4, rows, generator=draw),
        f"{PREFIX}{EMBED}.lora_embedding_B": torch.randn(columns, 4, generator=draw),
    }


@pytest.mark.parametrize("adapter", ["", ".default"])
def test_embedding(tmp_path: Path, base: BaseModel, base_values: Tensors, adapter: str) -> None:
    pair = {f"{key}{adapter}": value for key, value in _embedding_pair().items()}
    path = write_adapter(tmp_path / "x", pair, target_modules=["embed_tokens"])
    left, right = (value.double() for value in pair.values())
    assert _same(_deltas(path, base, base_values)[f"{EMBED}.weight"], 2.0 * (right @ left).T)
    with open_contribution(path, base) as contribution:
        assert "lm_head.weight" in contribution.warnings[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_copy_of_the_embedding_beside_its_adapter_adds_nothing(
    tmp_path: Path, base: BaseModel, base_values: Tensors, dtype: torch.dtype
) -> None:
    pair = _embedding_pair()
    copy = base_values[f"{EMBED}.weight"].to(dtype)
    tensors = pair | {f"{PREFIX}{EMBED}.base_layer.weight": copy, f"{PREFIX}lm_head.weight": copy.clone()}
    found = _deltas(write_adapter(tmp_path / "x", tensors, target_modules=["embed_tokens"]), base, base_values)
    left, right = (value.double() for value in pair.values())
    assert _same(found[f"{EMBED}.weight"], 2.0 * (right @ left).T)
    tensors[f"{PREFIX}{EMBED}.base_layer.weight"] = copy + 1e-3
    with pytest.raises(RejectedError) as caught:
        open_contribution(write_adapter(tmp_path / "y", tensors, target_modules=["embed_tokens"]), base)
    assert caught.value.reason is RejectReason.ADAPTER_UNSUPPORTED


@pytest.mark.parametrize("kernel", [(3, 3), (1, 1), (5,), (2, 3, 2)])
def test_convolution(tmp_path: Path, kernel: tuple[int, ...]) -> None:
    values = {"conv.weight": torch.randn(8, 4, *kernel)}
    base = describe_base(write_single(tmp_path / "base", values))
    left, right = torch.randn(8, 4, *(1 for _ in kernel)), torch.randn(4, 4, *kernel)
    tensors = {f"{PREFIX}conv.lora_A.weight": right, f"{PREFIX}conv.lora_B.weight": left}
    found = _deltas(write_adapter(tmp_path / "x", tensors, target_modules=["conv"]), base, values)
    expected = torch.einsum("or,ri...->oi...", left.double().flatten(1), right.double()) * 2.0
    assert _same(found["conv.weight"], expected)


def test_a_grouped_convolution_is_refused(tmp_path: Path, base: BaseModel) -> None:
    tensors = {
        f"{PREFIX}{CONV}.lora_A.weight": torch.ones(4, 8, 3, 3),
        f"{PREFIX}{CONV}.lora_B.weight": torch.ones(8, 4, 1, 1),
    }
    with pytest.raises(RejectedError, match=r"conv\.lora_B") as caught:
        open_contribution(write_adapter(tmp_path / "x", tensors, target_modules=["conv"]), base)
    assert caught.value.reason is RejectReason.SHAPE_MISMATCH


def test_trained_addition_to_a_bias(tmp_path: Path, base: BaseModel, base_values: Tensors) -> None:
    addition = torch.randn(32)
    tensors = lora_pair(Q_PROJ, 32, 32) | {f"{PREFIX}{Q_PROJ}.lora_B.bias": addition}
    found = _deltas(write_adapter(tmp_path / "x", tensors, lora_bias=True), base, base_values)
    assert _same(found[f"{Q_PROJ}.bias"], 2.0 * addition.double())
    tensors |= lora_pair(UP_PROJ, 64, 32) | {f"{PREFIX}{UP_PROJ}.lora_B.bias": torch.randn(64)}
    with pytest.raises(RejectedError, match=r"up_proj\.bias") as caught:
        open_contribution(write_adapter(tmp_path / "y", tensors, lora_bias=True), base)
    assert caught.value.reason is RejectReason.ADAPTER_TARGET_UNKNOWN


@pytest.mark.parametrize("key", [f"{Q_PROJ}.bias", f"{Q_PROJ}.base_layer.bias"])
@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_trained_biases_are_replaced(
    tmp_path: Path, base: BaseModel, base_values: Tensors, key: str, bias: str
) -> None:
    tuned = torch.randn(32)
    tensors = lora_tensors() | {PREFIX + key: tuned}
    with open_contribution(write_adapter(tmp_path / "x", tensors, bias=bias), base) as contribution:
        assert isinstance(contribution.entries[f"{Q_PROJ}.bias"], Dense)
        assert contribution.warnings == ()
        found = deltas(contribution, base_values)[f"{Q_PROJ}.bias"]
        assert torch.equal(found, tuned.double() - base_values[f"{Q_PROJ}.bias"].double())


@pytest.mark.parametrize(
    "key", ["model.norm.weight", "model.norm.modules_to_save.weight", "model.norm.modules_to_save.default.weight"]
)
def test_saved_modules_are_replaced(tmp_path: Path, base: BaseModel, base_values: Tensors, key: str) -> None:
    tuned = torch.randn(32)
    path = write_adapter(tmp_path / "x", lora_tensors() | {PREFIX + key: tuned}, modules_to_save=["norm", "classifier"])
    with open_contribution(path, base) as contribution:
        assert contribution.warnings == ()
        found = deltas(contribution, base_values)["model.norm.weight"]
    assert torch.equal(found, tuned.double() - base_values["model.norm.weight"].double())


def test_a_saved_embedding_with_its_tied_head(tmp_path: Path, base: BaseModel, base_values: Tensors) -> None:
    tuned = torch.randn(48, 32)
    tensors = lora_tensors() | {f"{PREFIX}{EMBED}.weight": tuned, f"{PREFIX}lm_head.weight": tuned.clone()}
    path = write_adapter(tmp_path / "x", tensors, modules_to_save=["embed_tokens", "lm_head"])
    found = _deltas(path, base, base_values)
    assert torch.equal(found[f"{EMBED}.weight"], tuned.double() - base_values[f"{EMBED}.weight"].double())
    assert "lm_head.weight" not in found


def test_whole_tensors_nobody_announced_are_told(tmp_path: Path, base: BaseModel) -> None:
    tensors = lora_tensors() | {f"{PREFIX}model.norm.weight": torch.randn(32)}
    with open_contribution(write_adapter(tmp_path / "x", tensors), base) as contribution:
        assert "model.norm.weight" in contribution.warnings[0]


def test_targets_by_pattern_or_not_at_all(tmp_path: Path, base: BaseModel, base_values: Tensors) -> None:
    for number, targets in enumerate(
        ("all-linear", r".*\.(q|up)_proj", None, ["model.layers.0.self_attn.q_proj", "up_proj"])
    ):
        path = write_adapter(tmp_path / f"{number}", lora_tensors(), target_modules=targets)
        assert len(_deltas(path, base, base_values)) == 2


@pytest.mark.parametrize("init", [True, False, None, "gaussian", "eva", "orthogonal"])
def test_initialisations_that_leave_the_base_alone(tmp_path: Path, base: BaseModel, init: object) -> None:
    open_contribution(write_adapter(tmp_path / "x", lora_tensors(), init_lora_weights=init), base).close()


def test_half_precision_factors(tmp_path: Path, base: BaseModel, base_values: Tensors) -> None:
    tensors = {name: value.to(torch.bfloat16) for name, value in lora_tensors().items()}
    found = _deltas(write_adapter(tmp_path / "x", tensors), base, base_values)
    assert _same(found[f"{UP_PROJ}.weight"], _ba(tensors, UP_PROJ, 2.0))


def test_settings_of_older_versions_may_be_missing(tmp_path: Path, base: BaseModel, base_values: Tensors) -> None:
    path = write_adapter(tmp_path / "x", lora_tensors())
    (path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 8}')
    assert _same(_deltas(path, base, base_values)[f"{UP_PROJ}.weight"], _ba(lora_tensors(), UP_PROJ, 2.0))
