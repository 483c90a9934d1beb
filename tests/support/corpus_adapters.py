"""Faults of PEFT adapters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mergenode.errors import RejectReason as R
from tests.support.checkpoints import (
    LORA_CONFIG,
    Q_PROJ,
    UP_PROJ,
    Tensors,
    lora_pair,
    lora_tensors,
    write_adapter,
)
from tests.support.corpus_case import Cases

ADAPTERS = Cases()
FILE = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
KEY = f"base_model.model.{Q_PROJ}"


def _settings(reason: R, name: str, *named: str, **settings: Any) -> None:
    """A good adapter with other settings."""

    def write(place: Path, base: Path) -> None:
        write_adapter(place, lora_tensors(), **settings)

    write.__name__ = name
    ADAPTERS.bad(reason, CONFIG, *named)(write)


def _config(name: str, text: str) -> None:
    """A good adapter with this text in place of its settings."""

    def write(place: Path, base: Path) -> None:
        write_adapter(place, lora_tensors())
        (place / CONFIG).write_text(text)

    write.__name__ = name
    ADAPTERS.bad(R.ADAPTER_CONFIG_INVALID, CONFIG)(write)


def _tensors(reason: R, name: str, tensor: str, edit: Callable[[Tensors], object], **settings: Any) -> None:
    """An adapter with its tensors edited in place."""

    def write(place: Path, base: Path) -> None:
        tensors = lora_tensors()
        edit(tensors)
        write_adapter(place, tensors, **settings)

    write.__name__ = name
    ADAPTERS.bad(reason, FILE, tensor)(write)


def _set(name: str, value: torch.Tensor) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({name: value})


@ADAPTERS.bad(R.ADAPTER_CONFIG_INVALID, CONFIG)
def adapter_without_configuration(place: Path, base: Path) -> None:
    write_adapter(place, lora_tensors())
    (place / CONFIG).unlink()


_config("adapter_configuration_not_json", "r: 4\nlora_alpha: 8\n")
_config("adapter_configuration_is_a_list", "[]")
_config("adapter_configuration_key_twice", '{"peft_type": "LORA", "r": 4, "r": 8}')
_config("adapter_configuration_nested_bomb", '{"peft_type":' * 50_000)
_config("adapter_alpha_is_nan", json.dumps(LORA_CONFIG | {"lora_alpha": float("nan")}))
_config("adapter_alpha_is_infinite", json.dumps(LORA_CONFIG).replace('"lora_alpha": 8', '"lora_alpha": 1e999'))
_settings(R.ADAPTER_CONFIG_INVALID, "adapter_without_type", peft_type=None)
_settings(R.ADAPTER_CONFIG_INVALID, "adapter_rank_zero", "r is 0", r=0)
_settings(R.ADAPTER_CONFIG_INVALID, "adapter_rank_negative", r=-4)
_settings(R.ADAPTER_CONFIG_INVALID, "adapter_rank_of_words", r="four")
_settings(R.ADAPTER_CONFIG_INVALID, "adapter_rank_true", r=True)
_settings(R.ADAPTER_CONFIG_INVALID, "adapter_flag_of_words", "use_rslora", use_rslora="yes")
_settings(R.ADAPTER_CONFIG_INVALID, "adapter_patterns_of_words", "rank_pattern", rank_pattern={"q_proj": "8"})
_settings(R.ADAPTER_CONFIG_INVALID, "adapter_pattern_that_never_ends", "pattern", alpha_pattern={"(a+)+b": 8})
_settings(R.ADAPTER_CONFIG_INVALID, "adapter_pattern_broken", "pattern", rank_pattern={"q_proj[": 8})
_settings(R.ADAPTER_CONFIG_INVALID, "adapter_targets_of_numbers", "target_modules", target_modules=[1, 2])
_settings(R.TOO_LARGE, "adapter_rank_of_a_million", "r is", r=1_000_000)
_settings(R.ADAPTER_UNSUPPORTED, "adapter_dora", "use_dora", use_dora=True)
_settings(R.ADAPTER_UNSUPPORTED, "adapter_loha", "LOHA", peft_type="LOHA")
_settings(R.ADAPTER_UNSUPPORTED, "adapter_pissa", "pissa_niter_4", init_lora_weights="pissa_niter_4")
_settings(R.ADAPTER_UNSUPPORTED, "adapter_olora", "olora", init_lora_weights="olora")
_settings(R.ADAPTER_UNSUPPORTED, "adapter_corda", "corda", init_lora_weights="corda")
_settings(R.ADAPTER_UNSUPPORTED, "adapter_loftq", "loftq", init_lora_weights="loftq")
_settings(R.ADAPTER_UNSUPPORTED, "adapter_replicates_layers", "layer_replication", layer_replication=[[0, 2], [1, 3]])
_settings(R.ADAPTER_UNSUPPORTED, "adapter_trains_tokens", "trainable_token_indices", trainable_token_indices=[1, 2])
_settings(R.ADAPTER_UNSUPPORTED, "adapter_activated", "alora_invocation_tokens", alora_invocation_tokens=[7])
_settings(R.ADAPTER_UNSUPPORTED, "adapter_on_parameters", "target_parameters", target_parameters=["experts.gate"])
_settings(R.ADAPTER_UNSUPPORTED, "adapter_megatron", "megatron_config", megatron_config={"hidden_size": 8})
_settings(R.ADAPTER_UNSUPPORTED, "adapter_of_the_future", "use_telepathy", use_telepathy=True)

_tensors(R.ADAPTER_INCOMPLETE, "adapter_half_a_pair", KEY, lambda tensors: tensors.pop(f"{KEY}.lora_B.weight"))
_tensors(R.ADAPTER_INCOMPLETE, "adapter_other_half_a_pair", KEY, lambda tensors: tensors.pop(f"{KEY}.lora_A.weight"))
_tensors(R.ADAPTER_INCOMPLETE, "adapter_of_nothing", "", lambda tensors: tensors.clear())
_tensors(
    R.ADAPTER_INCOMPLETE, "adapter_forgets_a_saved_module", "model.norm", lambda tensors: None, modules_to_save=["norm"]
)
_tensors(R.SHAPE_MISMATCH, "adapter_of_another_rank", "lora_A", lambda tensors: None, r=8)
_tensors(R.SHAPE_MISMATCH, "adapter_ranks_differ", KEY, _set(f"{KEY}.lora_B.weight", torch.ones(32, 3)))
_tensors(R.SHAPE_MISMATCH, "adapter_of_another_width", KEY, _set(f"{KEY}.lora_A.weight", torch.ones(4, 48)))
_tensors(R.SHAPE_MISMATCH, "adapter_of_vectors", KEY, _set(f"{KEY}.lora_A.weight", torch.ones(4)))
_tensors(
    R.DTYPE_MISMATCH, "adapter_of_integers", KEY, _set(f"{KEY}.lora_A.weight", torch.ones(4, 32, dtype=torch.int8))
)
_tensors(
    R.ADAPTER_TARGET_UNKNOWN, "adapter_of_an_unknown_module", "model.layers.9.self_attn.q_proj",
    lambda tensors: tensors.update(lora_pair("model.layers.9.self_attn.q_proj", 32, 32)),
)  # fmt: skip
_tensors(
    R.ADAPTER_TARGET_UNKNOWN,
    "adapter_outside_of_its_targets",
    "q_proj",
    lambda tensors: None,
    target_modules=["up_proj"],
)
_tensors(
    R.ADAPTER_UNSUPPORTED, "adapter_with_magnitudes", "magnitude", _set(f"{KEY}.lora_magnitude_vector", torch.ones(32))
)
_tensors(
    R.ADAPTER_UNSUPPORTED,
    "two_adapters_in_one_file",
    f"{KEY}.lora_A",
    _set(f"{KEY}.lora_A.other.weight", torch.ones(4, 32)),
)
_tensors(
    R.ADAPTER_UNSUPPORTED, "adapter_on_a_tied_head", "lm_head",
    lambda tensors: tensors.update(lora_pair("lm_head", 48, 32)), target_modules=None,
)  # fmt: skip
_tensors(
    R.ADAPTER_UNSUPPORTED, "adapter_replaces_what_it_changes", f"{UP_PROJ}.weight",
    _set(f"base_model.model.{UP_PROJ}.weight", torch.ones(64, 32)),
)  # fmt: skip
_tensors(
    R.TENSOR_UNEXPECTED, "adapter_bias_without_the_flag", "lora_B.bias", _set(f"{KEY}.lora_B.bias", torch.ones(32))
)
_tensors(
    R.TENSOR_UNEXPECTED, "adapter_with_a_classifier", "score", _set("base_model.model.score.weight", torch.ones(2, 32))
)
_tensors(
    R.TIED_WEIGHTS_DIFFER, "adapter_unties_the_head", "lm_head.weight",
    _set("base_model.model.lm_head.weight", torch.ones(48, 32)), modules_to_save=["lm_head"],
)  # fmt: skip
