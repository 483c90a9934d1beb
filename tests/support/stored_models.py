"""Models as safetensors files for tests of transfers: tensors that do not compress, of chosen sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

MIB = 1 << 20


def noise(seed: int, nbytes: int) -> np.ndarray:
    """Bytes as 16-bit integers."""
    return np.frombuffer(np.random.default_rng(seed).bytes(nbytes), np.int16)


def store(path: Path, tensors: Mapping[str, np.ndarray]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), path)
    return path


def noisy_model(path: Path, sizes: Sequence[int], seed: int = 0) -> Path:
    """One tensor per size in bytes; a seed decides all of them."""
    return store(path, {f"t{number:03d}": noise(1000 * seed + number, size) for number, size in enumerate(sizes)})


def tensors_of(path: Path) -> dict[str, bytes]:
    """Every tensor's bytes."""
    return {name: value.tobytes() for name, value in load_file(path).items()}
