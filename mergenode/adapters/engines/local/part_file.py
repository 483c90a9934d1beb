"""The file in which another node's part arrived: its statistics by tensor, and the text that says what they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.adapters.checkpoints.writer import SafetensorsWriter, header_reserve
from mergenode.adapters.engines.local.shards import statistic_key
from mergenode.adapters.engines.local.tensors import as_bytes, read_slice
from mergenode.errors import RejectedError, RejectReason
from mergenode.ledger.part_codec import MOST_BYTES
from mergenode.types import DType, TensorSpec

TEXT = "mergenode.part"
"""The tensor that holds the text: bytes. No statistic has this name."""


class PartFile:
    """Implements ``Stored`` over one safetensors file. Reading is for one thread."""

    def __init__(self, path: Path, limits: Limits, digests: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """``digests``: of every statistic by tensor, when they are known.

        Raises RejectedError: the container is not what it should be. TransientError: it cannot be read.
        """
        self._files: WeightFiles = open_weights(path, limits=limits)
        self._digests = digests or {}
        self.names: dict[str, dict[str, TensorSpec]] = {}
        for key, spec in self._files.specs.items():
            if key != TEXT:
                statistic, _, tensor = key.partition(".")
                self.names.setdefault(tensor, {})[statistic] = spec

    def text(self) -> bytes:
        """Raises RejectedError: there is none, or it is too long."""
        spec = self._files.specs.get(TEXT)
        if spec is None or spec.dtype is not DType.U8 or len(spec.shape) != 1:
            raise RejectedError(RejectReason.TENSOR_MISSING, f"there is no tensor {TEXT!r} of bytes")
        if spec.nbytes > MOST_BYTES:
            raise RejectedError(RejectReason.TOO_LARGE, f"{TEXT!r} has {spec.nbytes} bytes, {MOST_BYTES} are read")
        buffer = bytearray(spec.nbytes)
        self._files.read_into(TEXT, 0, memoryview(buffer))
        return bytes(buffer)

    def digests(self, tensor: str) -> Mapping[str, str]:
        return self._digests.get(tensor, {})

    def read(self, tensor: str, bounds: tuple[int, int] | None) -> dict[str, Tensor]:
        out = {}
        for statistic, spec in self.names.get(tensor, {}).items():
            stored = TensorSpec(statistic_key(statistic, tensor), spec.dtype, spec.shape)
            flat, _ = read_slice(self._files, stored, *(bounds or (0, spec.numel)))
            out[statistic] = flat if bounds else flat.view(spec.shape)
        return out

    def close(self) -> None:
        """Release the descriptor. Idempotent."""
        self._files.close()


def write_text(path: Path, text: bytes) -> None:
    """A file with nothing but the text of a part. Not durable: it is read at once, and made again."""
    spec = TensorSpec(TEXT, DType.U8, (len(text),))
    writer = SafetensorsWriter(path, reserve=header_reserve([spec], {}), metadata={}, durable=False)
    try:
        writer.allocate(spec)
        writer.append(TEXT, as_bytes(torch.frombuffer(bytearray(text), dtype=torch.uint8)))
        writer.finish()
    finally:
        writer.close()
