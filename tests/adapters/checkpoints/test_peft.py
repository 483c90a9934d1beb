"""Adapters that peft itself wrote, held against the merge that peft itself does."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mergenode.adapters.checkpoints.base import describe_base
from mergenode.adapters.checkpoints.contribution import open_contribution
from mergenode.errors import RejectedError, RejectReason
from tests.support.checkpoints import write_single
from tests.support.materialised import deltas

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peft = pytest.importorskip("peft")
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D

pytestmark = pytest.mark.filterwarnings("ignore")


class Model(nn.Module):
    """One module of every kind that peft adapts."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 16)
        self.q_proj = nn.Linear(16, 16)
        self.up_proj = nn.Linear(16, 48, bias=False)
        self.c_proj = conv1d(24, 16)  # stored [in, out]
        self.conv = nn.Conv2d(4, 8, 3)
        self.point = nn.Conv2d(4, 8, 1)
        self.line = nn.Conv1d(4, 8, 5)
        self.attn = nn.MultiheadAttention(16, 2)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 3)


CASES: dict[str, dict[str, Any]] = {
    "linear": {"target_modules": ["q_proj", "up_proj"]},
    "rank_stable": {"target_modules": ["q_proj", "up_proj"], "use_rslora": True, "lora_alpha": 5},
    "patterns": {
        "target_modules": ["q_proj", "up_proj", "conv"],
        "rank_pattern": {"up_proj": 7, "^conv": 2},
        "alpha_pattern": {r"(q|k)_proj": 3, "proj": 100},
    },
    "embedding": {"target_modules": ["embed", "q_proj"]},
    "conv1d": {"target_modules": ["c_proj"], "fan_in_fan_out": True},
    "conv1d_after_linear": {"target_modules": ["c_proj", "up_proj"]},
    "convolutions": {"target_modules": ["conv", "point", "line"]},
    "saved": {"target_modules": ["q_proj"], "modules_to_save": ["norm", "head"]},
    "bias_all": {"target_modules": ["q_proj"], "bias": "all"},
    "bias_lora_only": {"target_modules": ["q_proj", "up_proj"], "bias": "lora_only"},
    "lora_bias": {"target_modules": ["q_proj"], "lora_bias": True},
    "orthogonal": {"target_modules": ["q_proj", "up_proj"], "init_lora_weights": "orthogonal"},
}


@pytest.mark.parametrize("name", CASES)
def test_the_same_weights_as_peft_merges(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    model = Model()
    before = {key: value.detach().clone() for key, value in model.state_dict().items()}
    base = describe_base(write_single(tmp_path / "base", before))
    adapted = peft.get_peft_model(model, peft.LoraConfig(**{"r": 4, "lora_alpha": 6} | CASES[name]))
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    after = adapted.merge_and_unload().state_dict()
    with open_contribution(tmp_path / "adapter", base) as contribution:
        found = deltas(contribution, before)
    for key, value in before.items():
        expected = after[key].double() - value.double()
        actual = found.pop(key, torch.zeros_like(expected))
        assert torch.allclose(actual, expected, rtol=0, atol=2e-6), key
    assert not found


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
        {"target_modules": ["attn"]},  # adds its delta twice in this version: no meaning to agree on
    ],
)
def test_what_is_not_a_plain_delta_is_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    model = Model()
    base = describe_base(
        write_single(tmp_path / "base", {key: value.clone() for key, value in model.state_dict().items()})
    )
    adapted = peft.get_peft_model(model, peft.LoraConfig(**{"r": 4, "target_modules": ["q_proj"]} | settings))
    adapted.save_pretrained(tmp_path / "adapter")
    with pytest.raises(RejectedError) as caught:
        open_contribution(tmp_path / "adapter", base)
    assert caught.value.reason is RejectReason.ADAPTER_UNSUPPORTED
