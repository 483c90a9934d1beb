"""Small checkpoints on disk, whole and half-made, byte by byte."""

from __future__ import annotations

import json
import struct
from pathlib import Path


def safetensors_bytes(elements: int = 4, fill: int = 1, tensor: str = "w") -> bytes:
    """A complete safetensors file with one F32 tensor."""
    entry = {"dtype": "F32", "shape": [elements], "data_offsets": [0, 4 * elements]}
    header = json.dumps({tensor: entry}).encode()
    return struct.pack("<Q", len(header)) + header + bytes([fill]) * (4 * elements)


def write_single(directory: Path, elements: int = 4, fill: int = 1) -> Path:
    """A checkpoint directory with one weight file."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(safetensors_bytes(elements, fill))
    return directory


def shard_names(count: int) -> list[str]:
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def write_sharded(directory: Path, count: int = 3, missing: tuple[int, ...] = ()) -> Path:
    """A sharded checkpoint directory with an index; ``missing``: numbers of shards that are left out."""
    directory.mkdir(exist_ok=True)
    shards = shard_names(count)
    weight_map = {f"w{number}": shard for number, shard in enumerate(shards, start=1)}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (directory / "config.json").write_text("{}")
    for number, shard in enumerate(shards, start=1):
        if number not in missing:
            (directory / shard).write_bytes(safetensors_bytes(tensor=f"w{number}"))
    return directory
