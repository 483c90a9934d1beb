"""Published versions in the hands of transformers and peft, with nothing of mergenode in between."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from mergenode.types import DType
from tests.support.literal_merge import LiteralMerge, dense_deltas
from tests.support.local_node import merge

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers")
    peft = pytest.importorskip("peft")

pytestmark = pytest.mark.filterwarnings("ignore")
IDS = torch.tensor([[1, 5, 9, 2, 40, 63, 7]])


def tiny_llama(*, tied: bool, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=64, max_position_embeddings=32, tie_word_embeddings=tied, initializer_range=0.2,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).to(dtype).eval()


def tuned(model: Any, seed: int) -> Any:
    other = copy.deepcopy(model)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():  # a tied weight comes once
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))
    return other


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits.float()
    return found


def reload(directory: Path) -> Any:
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(
        directory, torch_dtype="auto", output_loading_info=True
    )
    assert not loading["missing_keys"] and not loading["unexpected_keys"] and not loading["mismatched_keys"]
    return model.eval()


def by_hand(base: Any, models: list[Any], method: str) -> Any:
    """The merge of the definition, put into a copy of the base."""
    weights = dict(base.named_parameters())
    literal = LiteralMerge(weights, lambda name: weights[name].ndim == 2 and "embed" not in name)
    merged: dict[str, torch.Tensor] = {}
    if method == "opcm":
        for model in models:
            literal.fold(dense_deltas(weights, dict(model.named_parameters())))
        merged = literal.published()
    else:
        for name in weights:
            merged[name] = torch.stack([dict(m.named_parameters())[name].double() for m in models]).mean(0)
    result = copy.deepcopy(base)
    with torch.no_grad():
        for name, parameter in result.named_parameters():
            parameter.copy_(merged[name])
    return result


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("method", ["opcm", "average"])
def test_transformers_loads_what_was_published(tmp_path: Path, tied: bool, method: str) -> None:
    base = tiny_llama(tied=tied)
    base.save_pretrained(tmp_path / "base", max_shard_size="20KB" if method == "opcm" else "1GB")
    models = [tuned(base, seed) for seed in (1, 2, 3)]
    for number, model in enumerate(models):
        model.save_pretrained(tmp_path / f"{number}")
    merge(tmp_path / "base", tmp_path / "out", [tmp_path / f"{n}" for n in range(3)], method=method)
    found = reload(tmp_path / "out")
    assert (found.lm_head.weight is found.model.embed_tokens.weight) is tied
    wanted = logits(by_hand(base, models, method))
    assert float((logits(found) - wanted).abs().max()) <= 2e-5 * float(wanted.abs().max())
    assert float((logits(base) - wanted).abs().max()) > 0.05


@pytest.mark.parametrize("dtype", [DType.BF16, DType.F16])
def test_the_published_type_is_the_type_that_loads(tmp_path: Path, dtype: DType) -> None:
    base = tiny_llama(tied=False)
    base.save_pretrained(tmp_path / "base")
    other = tuned(base, 1)
    other.save_pretrained(tmp_path / "1")
    merge(tmp_path / "base", tmp_path / "out", [tmp_path / "1"], dtype=dtype)
    wanted = {DType.BF16: torch.bfloat16, DType.F16: torch.float16}[dtype]
    found = reload(tmp_path / "out")
    assert found.dtype is wanted
    for name, parameter in found.named_parameters():
        assert torch.equal(parameter, dict(other.named_parameters())[name].to(wanted)), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("settings", [{}, {"use_rslora": True, "rank_pattern": {"up_proj": 2}}])
def test_an_adapter_of_peft_equals_merge_and_unload(
    tmp_path: Path, dtype: torch.dtype, settings: dict[str, Any]
) -> None:
    base = tiny_llama(tied=True, dtype=dtype)
    base.save_pretrained(tmp_path / "base")
    config = peft.LoraConfig(
        r=4, lora_alpha=16, task_type="CAUSAL_LM", target_modules=["q_proj", "up_proj", "down_proj"], **settings
    )
    adapted = peft.get_peft_model(copy.deepcopy(base), config)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=draw))
    adapted.save_pretrained(tmp_path / "adapter")
    merge(tmp_path / "base", tmp_path / "out", [tmp_path / "adapter"], method="average")
    theirs = adapted.merge_and_unload().eval()
    found = reload(tmp_path / "out")
    ours = dict(found.named_parameters())
    rounding = 1e-6 if dtype is torch.float32 else 2.0**-7
    moved = 0
    for name, parameter in theirs.named_parameters():
        assert ours[name].dtype is dtype
        error = (ours[name].double() - parameter.double()).abs()
        assert bool((error <= rounding * (parameter.double().abs() + 0.05)).all()), name
        moved += not torch.equal(ours[name], dict(base.named_parameters())[name])
    assert moved == 6
    wanted = logits(theirs)
    assert float((logits(found) - wanted).abs().max()) <= 20 * rounding * float(wanted.abs().max())
