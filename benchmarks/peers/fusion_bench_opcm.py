"""Drive FusionBench's OPCM on local checkpoints. Runs with the Python of its environment, as a script.

usage: fusion_bench_opcm.py ALPHA OUTPUT BASE MODEL...

The models are folded in the order given, in float32 (there is no bf16 decomposition on a CPU), without
evaluation, intermediate saves or Ray; the result is saved once, by ``save_pretrained``.
"""

from __future__ import annotations

import sys

import lightning  # type: ignore[import-not-found, unused-ignore]  # in its own environment only
import torch
from fusion_bench.method.opcm.opcm_general import (  # type: ignore[import-not-found, unused-ignore]  # the same
    OPCM,
)
from transformers import LlamaForCausalLM


class CheckpointPool:
    """What ``OPCM.run`` asks of a model pool: names in order, and one model at a time."""

    def __init__(self, base: str, models: list[str]) -> None:
        self.model_names = models
        self._base = base

    def load_pretrained_model(self) -> LlamaForCausalLM:
        return self.load_model(self._base)

    def load_model(self, path: str) -> LlamaForCausalLM:
        model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(
            path, torch_dtype=torch.float32, local_files_only=True
        )
        return model


def main(alpha: str, output: str, base: str, *models: str) -> None:
    method = OPCM(alpha=float(alpha), shuffle_order=False, save_on_every_step=False, num_ray_actors=0)
    method._fabric_instance = lightning.Fabric(accelerator="cpu", devices=1)
    merged = method.run(CheckpointPool(base, list(models)))
    merged.save_pretrained(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
