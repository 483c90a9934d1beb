"""Generated checkpoints: llama-shaped, bf16, in Hugging Face layout, the same bytes for the same seed.

    python -m benchmarks.models --preset 120m --out DIR --fine-tunes 4 --seed 0

writes ``DIR/base``, ``DIR/tuned-1`` ... and, with ``--adapters``, ``DIR/adapter-1`` ... (PEFT LoRA). A
fine-tune is the base plus, per matrix, a rank-8 update and a little dense noise, as long as ``--ratio`` of
the base's norm; per vector dense noise alone. Only numpy is needed; memory stays at a few blocks of 16 MiB.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.generated_values import RANK, WEIGHT_STD, adapter_blocks, base_blocks, fine_tune_blocks
from benchmarks.streamed_safetensors import Blocks, Tensor, write_file, write_sharded


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Dimensions of a llama model, in elements. ``kv_heads`` < ``heads`` means grouped-query attention."""

    hidden: int
    layers: int
    intermediate: int
    vocab: int
    heads: int
    kv_heads: int
    tied: bool = False

    def tensors(self) -> list[Tensor]:
        """Every stored parameter in the order of the layers; a tied head is not stored."""
        kv = self.hidden // self.heads * self.kv_heads
        layer = {
            "input_layernorm": (self.hidden,),
            "self_attn.q_proj": (self.hidden, self.hidden),
            "self_attn.k_proj": (kv, self.hidden),
            "self_attn.v_proj": (kv, self.hidden),
            "self_attn.o_proj": (self.hidden, self.hidden),
            "post_attention_layernorm": (self.hidden,),
            "mlp.gate_proj": (self.intermediate, self.hidden),
            "mlp.up_proj": (self.intermediate, self.hidden),
            "mlp.down_proj": (self.hidden, self.intermediate),
        }
        named: list[tuple[str, tuple[int, ...]]] = [("model.embed_tokens", (self.vocab, self.hidden))]
        for number in range(self.layers):
            named += [(f"model.layers.{number}.{part}", size) for part, size in layer.items()]
        named.append(("model.norm", (self.hidden,)))
        if not self.tied:
            named.append(("lm_head", (self.vocab, self.hidden)))
        return [Tensor(f"{name}.weight", size) for name, size in named]

    def parameters(self) -> int:
        """Stored parameters."""
        return sum(tensor.size_bytes for tensor in self.tensors()) // 2


PRESETS = {
    # 0.13 M parameters, for tests.
    "tiny": Shape(hidden=64, layers=2, intermediate=160, vocab=256, heads=4, kv_heads=4),
    # 119.6 M parameters, 228 MiB.
    "120m": Shape(hidden=1024, layers=8, intermediate=2816, vocab=8192, heads=16, kv_heads=16),
    # 494.0 M parameters, 942 MiB, of which the tied embedding is 136 M: the usual half-billion shape.
    "0.5b": Shape(hidden=896, layers=24, intermediate=4864, vocab=151936, heads=14, kv_heads=2, tied=True),
    # 524.9 M parameters, 1001 MiB, smaller vocabulary: for tools that fold a tied embedding twice.
    "0.5b-untied": Shape(hidden=1024, layers=24, intermediate=4864, vocab=32000, heads=16, kv_heads=16),
}


def write_base(directory: Path, shape: Shape, *, seed: int, shard_bytes: int = 100_000_000) -> None:
    """Write the base model: matrices N(0, 0.02^2), norm weights around one. Same arguments, same bytes."""
    _write_model(directory, shape, lambda tensor: base_blocks(tensor, seed), shard_bytes)


def write_fine_tune(
    directory: Path, shape: Shape, *, seed: int, number: int, ratio: float, shard_bytes: int = 100_000_000
) -> None:
    """Write fine-tune ``number`` (from 1) of ``write_base(seed=seed)``. Same arguments, same bytes.

    ``ratio`` is the norm of the update over the norm of the base, before rounding to bf16 adds a little.
    """
    _write_model(directory, shape, lambda t: fine_tune_blocks(t, seed, number, ratio), shard_bytes)


def write_adapter(directory: Path, shape: Shape, *, seed: int, number: int, ratio: float) -> None:
    """Write a LoRA as ``peft`` saves it: rank 8, alpha 16, float32, all linear layers but the head."""
    directory.mkdir(parents=True, exist_ok=True)
    pairs: list[Tensor] = []
    for tensor in shape.tensors():
        if ".layers." in tensor.name and len(tensor.shape) == 2:
            module = "base_model.model." + tensor.name.removesuffix(".weight")
            pairs.append(Tensor(f"{module}.lora_A.weight", (RANK, tensor.shape[1]), "F32"))
            pairs.append(Tensor(f"{module}.lora_B.weight", (tensor.shape[0], RANK), "F32"))
    scaling = 16 / RANK
    std = (ratio * WEIGHT_STD / scaling / RANK**0.5) ** 0.5  # of A and B: scaling * B A is then as long as asked

    def blocks(tensor: Tensor) -> Iterator[bytes]:
        return adapter_blocks(tensor, seed, number, std)

    write_file(directory / "adapter_model.safetensors", pairs, blocks)
    modules = sorted({tensor.name.split(".lora_")[0].rsplit(".", 1)[-1] for tensor in pairs})
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "base", "r": RANK,
        "lora_alpha": 16, "lora_dropout": 0.0, "bias": "none", "target_modules": modules,
        "fan_in_fan_out": False, "use_rslora": False, "use_dora": False, "inference_mode": True,
    }  # fmt: skip
    _write_json(directory / "adapter_config.json", config)


def write_suite(
    directory: Path, shape: Shape, *, fine_tunes: int, adapters: int = 0, seed: int = 0, ratio: float = 0.03,
    shard_bytes: int = 100_000_000,
) -> None:  # fmt: skip
    """Write base, fine-tunes and adapters below ``directory`` and describe them in ``suite.json``.

    Idempotence: a directory whose ``suite.json`` says the same is left alone; ``suite.json`` is written last.
    """
    described = {"shape": asdict(shape), "parameters": shape.parameters(), "fine_tunes": fine_tunes,
                 "adapters": adapters, "seed": seed, "ratio": ratio, "shard_bytes": shard_bytes}  # fmt: skip
    summary = directory / "suite.json"
    if summary.exists() and json.loads(summary.read_text()) == described:
        return
    summary.unlink(missing_ok=True)
    write_base(directory / "base", shape, seed=seed, shard_bytes=shard_bytes)
    for number in range(1, fine_tunes + 1):
        target = directory / f"tuned-{number}"
        write_fine_tune(target, shape, seed=seed, number=number, ratio=ratio, shard_bytes=shard_bytes)
    for number in range(1, adapters + 1):
        write_adapter(directory / f"adapter-{number}", shape, seed=seed, number=number, ratio=ratio)
    _write_json(summary, described)


def _write_model(directory: Path, shape: Shape, blocks: Blocks, shard_bytes: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for stale in directory.glob("model*.safetensors*"):
        stale.unlink()
    write_sharded(directory, shape.tensors(), blocks, shard_bytes)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers, "intermediate_size": shape.intermediate, "vocab_size": shape.vocab,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads,
        "tie_word_embeddings": shape.tied, "hidden_act": "silu", "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "attention_bias": False, "mlp_bias": False,
        "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16",
    }  # fmt: skip
    _write_json(directory / "config.json", config)
    _write_json(directory / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Command line of the generator."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description="Generate models.")
    parser.add_argument("--preset", choices=PRESETS, default="120m")
    for dimension in ("hidden", "layers", "intermediate", "vocab", "heads", "kv-heads"):
        parser.add_argument(f"--{dimension}", type=int, help="in place of the preset's")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fine-tunes", type=int, default=4)
    parser.add_argument("--adapters", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ratio", type=float, default=0.03, help="norm of update over norm of base")
    parser.add_argument("--shard-bytes", type=int, default=100_000_000)
    given = vars(parser.parse_args(arguments))
    dimensions = ("hidden", "layers", "intermediate", "vocab", "heads", "kv_heads")
    shape = replace(PRESETS[given["preset"]], **{name: given[name] for name in dimensions if given[name]})
    rest = ("fine_tunes", "adapters", "seed", "ratio", "shard_bytes")
    write_suite(given["out"], shape, **{name: given[name] for name in rest})
    print(f"{given['out']}: {shape.parameters() / 1e6:.1f} M parameters, {given['fine_tunes']} fine-tunes")


if __name__ == "__main__":
    main()
