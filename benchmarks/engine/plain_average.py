"""The reference that everybody writes first: load every model, add, divide, save. Usage: OUTPUT MODEL..."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def load(model: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint directory."""
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(model.glob("*.safetensors")):
        tensors.update(load_file(file))
    return tensors


def main(output: Path, models: list[Path]) -> None:
    """Average in float32, published in the models' own types."""
    torch.set_num_threads(1)
    total: dict[str, torch.Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    for model in models:
        for name, tensor in load(model).items():
            dtypes[name] = tensor.dtype
            if name in total:
                total[name] += tensor.float()
            else:
                total[name] = tensor.float()
    output.mkdir(parents=True)
    merged = {name: (tensor / len(models)).to(dtypes[name]) for name, tensor in total.items()}
    save_file(merged, output / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]])
