"""Write safetensors checkpoints block by block: memory is one block, whatever the size of the model.

The header is known from the shapes, so it is written first and the data follows as it is made. Layout and
file names are those of ``save_pretrained``: one ``model.safetensors``, or numbered shards and an index.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

_ELEMENT_BYTES = {"BF16": 2, "F32": 4}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor to be written: its name, its shape and its safetensors element type."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "BF16"

    @property
    def size_bytes(self) -> int:
        return prod(self.shape) * _ELEMENT_BYTES[self.dtype]


Blocks = Callable[[Tensor], Iterable[bytes]]
"""The raw little-endian bytes of a tensor, in order, in pieces of any length."""


def split_into_shards(tensors: Sequence[Tensor], shard_bytes: int) -> list[list[Tensor]]:
    """Fill shards in order up to ``shard_bytes`` each; a larger tensor gets a shard of its own."""
    shards: list[list[Tensor]] = [[]]
    filled = 0
    for tensor in tensors:
        if shards[-1] and filled + tensor.size_bytes > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += tensor.size_bytes
    return shards


def write_sharded(directory: Path, tensors: Sequence[Tensor], blocks: Blocks, shard_bytes: int) -> list[Path]:
    """Write ``tensors`` into ``directory`` (must exist) in as many files as ``shard_bytes`` asks for.

    Returns the files written. Idempotence: the same arguments write the same bytes. Durability: none, what is
    lost is made again.
    """
    shards = split_into_shards(tensors, shard_bytes)
    if len(shards) == 1:
        return [write_file(directory / "model.safetensors", tensors, blocks)]
    weight_map: dict[str, str] = {}
    paths = []
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        paths.append(write_file(directory / name, shard, blocks))
        weight_map.update((tensor.name, name) for tensor in shard)
    index = {"metadata": {"total_size": sum(t.size_bytes for t in tensors)}, "weight_map": weight_map}
    text = json.dumps(index, indent=2, sort_keys=True) + "\n"
    (directory / "model.safetensors.index.json").write_text(text)
    return paths


def write_file(path: Path, tensors: Sequence[Tensor], blocks: Blocks) -> Path:
    """Write one safetensors file. ValueError: a tensor's blocks are not as long as its shape says."""
    with open(path, "wb") as file:
        file.write(_header(tensors))
        for tensor in tensors:
            written = sum(file.write(block) for block in blocks(tensor))
            if written != tensor.size_bytes:
                raise ValueError(f"{path}: {tensor.name}: {written} bytes, {tensor.size_bytes} declared")
    return path


def _header(tensors: Sequence[Tensor]) -> bytes:
    """Length, JSON and padding: the data that follows starts at a multiple of eight."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        end = offset + tensor.size_bytes
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (offset, end)}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
