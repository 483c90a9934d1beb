"""Random models that hold everything a checkpoint can hold, contributions to them, and where they lie on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

Tensors = dict[str, Tensor]

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
FLOATS: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
    EMBEDDING: ((48, 32), torch.bfloat16),
    "layers.0.attn.in_proj_weight": ((96, 32), torch.bfloat16),  # tall, fused
    "layers.0.attn.in_proj_bias": ((96,), torch.bfloat16),
    "layers.0.attn.q_proj.weight": ((32, 32), torch.float32),  # square
    "layers.0.attn.q_proj.bias": ((32,), torch.float32),
    "layers.0.mlp.up_proj.weight": ((80, 32), torch.bfloat16),
    "layers.0.mlp.down_proj.weight": ((32, 80), torch.float16),  # wide
    "layers.0.mlp.narrow.weight": ((2, 24), torch.float32),
    "layers.0.norm.weight": ((32,), torch.float32),
    "layers.1.exact.weight": ((24, 40), torch.float64),
    "layers.1.exact.bias": ((24,), torch.float64),
    "layers.1.conv.weight": ((6, 4, 3, 3), torch.float16),
    "layers.1.conv.bias": ((6,), torch.float16),
    "vision.class_embedding": ((32,), torch.float32),  # a bare parameter on a container module
    "vision.gate": ((8, 8), torch.bfloat16),  # the same with two dimensions
    "vision.scale": ((), torch.float32),
    "vision.empty": ((0, 16), torch.bfloat16),
}
PROJECTED = (
    "layers.0.attn.in_proj_weight", "layers.0.attn.q_proj.weight", "layers.0.mlp.up_proj.weight",
    "layers.0.mlp.down_proj.weight", "layers.0.mlp.narrow.weight", "layers.1.exact.weight",
)  # fmt: skip
"""The linear maps of the model: what OPCM projects. Everything else is summed."""


def random_base(seed: int = 0, *, tied: str = "twice", dtype: torch.dtype | None = None) -> Tensors:
    """A base. ``tied``: the output head is stored ``twice``, ``once`` (implied) or is its ``own`` parameter.

    ``dtype``: one type for all float tensors in place of the mixture.
    """
    draw = torch.Generator().manual_seed(seed)
    tensors = {
        name: (torch.randn(shape, generator=draw, dtype=torch.float64) * 0.05).to(dtype or own)
        for name, (shape, own) in FLOATS.items()
    }
    if tied == "twice":
        tensors[HEAD] = tensors[EMBEDDING].clone()
    elif tied == "own":
        tensors[HEAD] = (torch.randn((48, 32), generator=draw) * 0.05).to(dtype or torch.bfloat16)
    return {
        **tensors,
        "position_ids": torch.arange(16).reshape(1, 16),
        "layers.0.mask": torch.tensor([True, False, True]),
        "layers.0.levels": torch.arange(5, dtype=torch.uint8),
    }


def fine_tune(base: Mapping[str, Tensor], seed: int, *, ratio: float = 0.2) -> Tensors:
    """``base`` with a full-rank update of every float tensor, ``ratio`` times as long; tied weights stay tied."""
    draw = torch.Generator().manual_seed(1000 + seed)
    tuned: Tensors = {}
    for name, tensor in base.items():
        step = torch.randn(tensor.shape, generator=draw, dtype=torch.float64) * 0.05 * ratio
        tuned[name] = (tensor.double() + step).to(tensor.dtype) if tensor.is_floating_point() else tensor.clone()
    if HEAD in base and torch.equal(base[HEAD], base[EMBEDDING]):
        tuned[HEAD] = tuned[EMBEDDING].clone()
    return tuned


def write_model(directory: Path, tensors: Mapping[str, Tensor], *, shards: int = 1) -> Path:
    """A Hugging Face directory: one file, or shards with an index."""
    directory.mkdir(parents=True)
    names = list(tensors)
    files = ["model.safetensors"]
    if shards > 1:
        files = [f"model-{number + 1:05d}-of-{shards:05d}.safetensors" for number in range(shards)]
        homes = {name: files[position * shards // len(names)] for position, name in enumerate(names)}
        total = sum(tensor.nbytes for tensor in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": homes}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    for number, file in enumerate(files):
        part = [name for position, name in enumerate(names) if position * shards // len(names) == number]
        save_file({name: tensors[name].contiguous() for name in part}, directory / file, {"format": "pt"})
    (directory / "config.json").write_text('{"model_type": "random", "torch_dtype": "bfloat16"}')
    return directory


def factors(
    modules: Sequence[str], shapes: Mapping[str, tuple[int, ...]], seed: int, *, rank: int = 4, std: float = 0.1
) -> Tensors:
    """LoRA factors A [rank, in] and B [out, rank], by ``(module, side)`` names as peft writes them."""
    draw = torch.Generator().manual_seed(2000 + seed)
    found: Tensors = {}
    for module in modules:
        out, inner = shapes[f"{module}.weight"]
        found[f"base_model.model.{module}.lora_A.weight"] = torch.randn((rank, inner), generator=draw) * std
        found[f"base_model.model.{module}.lora_B.weight"] = torch.randn((out, rank), generator=draw) * std
    return found


def write_lora(directory: Path, pairs: Mapping[str, Tensor], *, rank: int = 4, alpha: float = 8.0) -> Path:
    """A PEFT adapter directory."""
    directory.mkdir(parents=True)
    save_file(dict(pairs), directory / "adapter_model.safetensors", {"format": "pt"})
    modules = sorted({name.split(".lora_")[0].rsplit(".", 1)[-1] for name in pairs})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": modules, "bias": "none"}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


def densified(base: Mapping[str, Tensor], pairs: Mapping[str, Tensor], *, rank: int = 4, alpha: float = 8.0) -> Tensors:
    """``base`` plus the adapter's deltas, computed in float64, every touched tensor widened to float32 at least."""
    dense = {name: tensor.clone() for name, tensor in base.items()}
    for name, right in pairs.items():
        if ".lora_A." not in name:
            continue
        left = pairs[name.replace(".lora_A.", ".lora_B.")]
        target = name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
        wide = torch.promote_types(base[target].dtype, torch.float32)
        dense[target] = (base[target].double() + alpha / rank * (left.double() @ right.double())).to(wide)
    return dense
