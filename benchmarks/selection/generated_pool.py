"""A large pool of small models whose scores are spread like those of fine-tunes of a few tasks; every file differs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

TASKS = 8
_STD = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolShape:
    """``layers`` square matrices of ``width``, in bf16."""

    width: int = 512
    layers: int = 16

    @property
    def numel(self) -> int:
        return self.layers * self.width * self.width

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """A flat vector as the tensors of a model; views."""
        size = self.width * self.width
        return {
            f"layers.{number}.weight": flat[number * size : (number + 1) * size].view(self.width, self.width)
            for number in range(self.layers)
        }


def write_pool(directory: Path, shape: PoolShape, *, count: int, seed: int) -> list[Path]:
    """``base`` and ``candidate-NNNN``; finished ones are kept.

    A task vector is 1% to 3% of the base's norm: 30% to 60% along the direction of one of the tasks, in turn, the rest
    is noise of its own, as dense as the direction.
    """
    base = _draw(shape, seed, 0).mul_(_STD).bfloat16()
    _save(directory / "base", shape.split(base))
    directions = task_directions(shape, seed)
    paths = []
    for number in range(count):
        path = directory / f"candidate-{number:04d}"
        paths.append(path)
        if (path / "model.safetensors").exists():
            continue
        draw = torch.Generator().manual_seed(seed * 1_000_003 + 1000 + number)
        share, ratio = 0.3 + 0.3 * torch.rand(2, generator=draw)[0].item(), 0.01 + 0.02 * torch.rand(1, generator=draw)
        noise = torch.randn(shape.numel, generator=draw)
        update = directions[number % TASKS] * share + noise * (1 - share * share) ** 0.5
        _save(path, shape.split((base.float() + update * (_STD * ratio)).bfloat16()))
    return paths


def task_directions(shape: PoolShape, seed: int) -> list[Tensor]:
    """One dense direction per task, of mean square 1."""
    return [_draw(shape, seed, 1 + task) for task in range(TASKS)]


def gradients(directory: Path, shape: PoolShape, *, seed: int, count: int) -> Iterator[Path]:
    """Gradient files, one objective each: minus two of the tasks, mixed anew, and noise of five times the length.

    A candidate of one of these tasks has a cosine of -0.04 to -0.12 with it, every other one about 0.
    """
    directions = task_directions(shape, seed)
    for number in range(count):
        draw = torch.Generator().manual_seed(seed * 7_000_003 + number)
        first, second = torch.randperm(TASKS, generator=draw)[:2].tolist()
        mix = torch.rand(1, generator=draw).item()
        flat = -(directions[first] * mix + directions[second] * (1 - mix)) / (mix**2 + (1 - mix) ** 2) ** 0.5
        flat = (flat + 5 * torch.randn(shape.numel, generator=draw)).mul_(1e-4)
        path = directory / f"gradient-{number:03d}.safetensors"
        save_file(shape.split(flat), path)
        yield path


def _draw(shape: PoolShape, seed: int, stream: int) -> Tensor:
    return torch.randn(shape.numel, generator=torch.Generator().manual_seed(seed * 1_000_003 + stream))


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    path.mkdir(parents=True, exist_ok=True)
    if (path / "model.safetensors").exists() and load_file(path / "model.safetensors").keys() == tensors.keys():
        return
    save_file({name: values.contiguous() for name, values in tensors.items()}, path / ".new", {"format": "pt"})
    (path / ".new").rename(path / "model.safetensors")
