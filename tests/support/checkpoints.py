"""Builders of checkpoints, good ones by the safetensors library, forged ones byte by byte."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]

LAYER = "model.layers.0."
Q_PROJ = LAYER + "self_attn.q_proj"
UP_PROJ = LAYER + "mlp.up_proj"
CONV = LAYER + "conv"
EMBED = "model.embed_tokens"


def base_tensors(seed: int = 0) -> Tensors:
    """A small model with everything that is awkward: tied pair, mixed types, buffers, a scalar, an empty tensor."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.randn(*shape, generator=draw).mul_(0.05).to(dtype)

    embedding = normal(48, 32)
    return {
        f"{EMBED}.weight": embedding,
        "lm_head.weight": embedding.clone(),
        f"{Q_PROJ}.weight": normal(32, 32),
        f"{Q_PROJ}.bias": normal(32),
        f"{UP_PROJ}.weight": normal(64, 32),
        f"{LAYER}mlp.down_proj.weight": normal(32, 64),
        f"{CONV}.weight": normal(8, 4, 3, 3, dtype=torch.float16),
        f"{CONV}.bias": normal(8, dtype=torch.float16),
        "model.norm.weight": 1 + normal(32, dtype=torch.float32),
        "model.scale": torch.tensor(0.5),
        "model.empty": torch.zeros(0, 32),
        "model.position_ids": torch.arange(16).reshape(1, 16),
        "model.mask": torch.tensor([True, False, True, True]),
    }


def finetuned(base: Mapping[str, torch.Tensor], *, step: float = 0.01, seed: int = 1) -> Tensors:
    """The base plus noise in every float tensor; tied weights stay tied."""
    draw = torch.Generator().manual_seed(seed)
    tuned: Tensors = {}
    for name, tensor in base.items():
        noise = torch.randn(tensor.shape, generator=draw) * step
        tuned[name] = (tensor.float() + noise).to(tensor.dtype) if tensor.is_floating_point() else tensor.clone()
    tied = f"{EMBED}.weight"
    if "lm_head.weight" in base and tied in base and torch.equal(base["lm_head.weight"], base[tied]):
        tuned["lm_head.weight"] = tuned[tied].clone()
    return tuned


def write_file(path: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    return path


def write_single(directory: Path, tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any] | None = None) -> Path:
    """A Hugging Face directory with one weight file."""
    write_file(directory / "model.safetensors", tensors)
    write_json(directory / "config.json", {"model_type": "llama"} if config is None else config)
    return directory


def write_sharded(directory: Path, tensors: Mapping[str, torch.Tensor], shards: int = 2) -> Path:
    """A Hugging Face directory with shards and their index."""
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[number::shards]}
        write_file(directory / file, part)
        weight_map.update(dict.fromkeys(part, file))
    total = sum(tensor.nbytes for tensor in tensors.values())
    write_json(
        directory / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map}
    )
    write_json(directory / "config.json", {"model_type": "llama"})
    return directory


LORA_CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "base",
    "r": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.05,
    "target_modules": ["q_proj", "up_proj"],
    "bias": "none",
    "fan_in_fan_out": False,
    "use_rslora": False,
    "use_dora": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
    "init_lora_weights": True,
    "layer_replication": None,
    "inference_mode": True,
}


def lora_pair(module: str, out: int, inner: int, rank: int = 4, seed: int = 3) -> Tensors:
    """``B @ A`` of one linear module under peft's names."""
    draw = torch.Generator().manual_seed(seed)
    key = f"base_model.model.{module}"
    return {
        f"{key}.lora_A.weight": torch.randn(rank, inner, generator=draw) * 0.1,
        f"{key}.lora_B.weight": torch.randn(out, rank, generator=draw) * 0.1,
    }


def lora_tensors() -> Tensors:
    return lora_pair(Q_PROJ, 32, 32) | lora_pair(UP_PROJ, 64, 32, seed=4)


def write_adapter(directory: Path, tensors: Mapping[str, torch.Tensor], **settings: Any) -> Path:
    """A PEFT adapter directory; ``settings`` override those of a plain rank 4 LoRA."""
    write_file(directory / "adapter_model.safetensors", tensors)
    write_json(directory / "adapter_config.json", LORA_CONFIG | settings)
    return directory


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def load_single(directory: Path) -> Tensors:
    """The tensors of a Hugging Face directory with one file."""
    return load_file(directory / "model.safetensors")


def take_apart(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def forge(path: Path, header: Mapping[str, Any] | bytes, data: bytes = b"", *, length: int | None = None) -> Path:
    """A safetensors file with any header over any data; ``length``: the header length it claims."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path
