"""The demo's checkpoints as a team would push them: Hugging Face directories, a PEFT adapter, and three bad ones.

Everything is written with the safetensors library, not with mergenode's own writer: the node is to read what others
write.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mergenode.demo.network import NetworkConfig, Weights
from mergenode.demo.training import ADAPTED, Adapter

WEIGHTS, ADAPTER = "model.safetensors", "adapter_model.safetensors"


def write_full(directory: Path, weights: Weights, config: NetworkConfig) -> Path:
    """A single-file checkpoint: ``config.json`` and ``model.safetensors``. Returns the directory."""
    directory.mkdir(parents=True)
    _write_json(directory / "config.json", config.to_json())
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, directory / WEIGHTS, {"format": "pt"})
    return directory


def write_adapter(directory: Path, adapter: Adapter, base: Path) -> Path:
    """A LoRA adapter in the layout of PEFT. Returns the directory."""
    directory.mkdir(parents=True)
    _write_json(
        directory / "adapter_config.json",
        {
            "peft_type": "LORA",
            "base_model_name_or_path": str(base),
            "r": adapter.rank,
            "lora_alpha": adapter.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "init_lora_weights": True,
            "modules_to_save": None,
            "target_modules": list(ADAPTED),
            "task_type": None,
            "use_dora": False,
            "use_rslora": False,
        },
    )
    factors = {
        f"base_model.model.{module}.lora_{letter}.weight": tensor.contiguous()
        for letter, factor in (("A", adapter.down), ("B", adapter.up))
        for module, tensor in factor.items()
    }
    save_file(factors, directory / ADAPTER, {"format": "pt"})
    return directory


def write_damaged(directory: Path, weights: Weights, config: NetworkConfig) -> Path:
    """A checkpoint of the right size whose header lost a few bytes to a bad disk. Returns the directory."""
    write_full(directory, weights, config)
    with (directory / WEIGHTS).open("r+b") as file:
        file.seek(40)  # the header begins at byte 8
        file.write(bytes(16))
    return directory


def write_diverged(directory: Path, weights: Weights, config: NetworkConfig) -> Path:
    """A fine-tune that ran into NaN in one matrix, as exploding gradients leave it. Returns the directory."""
    name = "layers.1.down_proj.weight"
    broken = weights[name].clone()
    broken[3, 5:9] = torch.nan
    return write_full(directory, {**weights, name: broken}, config)


def read_weights(directory: Path) -> dict[str, Tensor]:
    """All tensors of a single-file checkpoint, as any program would read them."""
    return load_file(directory / WEIGHTS)


def _write_json(path: Path, document: Mapping[str, object]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
