"""One pass over the tensors of a checkpoint: digests, norms and constancy, through one buffer."""

from __future__ import annotations

import math

import torch
from blake3 import blake3

from mergenode.adapters.checkpoints.digest import CHUNK_BYTES, ByteProgress, ContentDigest, digest_of
from mergenode.adapters.checkpoints.torch_dtypes import TORCH_DTYPES
from mergenode.adapters.checkpoints.weights import WeightFiles
from mergenode.errors import RejectedError, RejectReason
from mergenode.maths.norms import squared_norm
from mergenode.types import Digest, TensorSpec


class Survey:
    """Digest, squared norm and constancy of every tensor, read piece by piece through one buffer."""

    def __init__(self, weights: WeightFiles, progress: ByteProgress) -> None:
        self.content = ContentDigest()
        self.digests: dict[str, Digest] = {}
        self.squared_norms: dict[str, float] = {}
        self.constant: set[str] = set()
        self._weights = weights
        self._progress = progress
        self._buffer = bytearray(CHUNK_BYTES)
        self._done = 0
        self._total = sum(spec.nbytes for spec in weights.specs.values())

    def read(self, name: str) -> None:
        spec = self._weights.specs[name]
        hasher = blake3()
        squares: list[float] = []
        first: torch.Tensor | None = None
        constant = spec.dtype.is_float
        for offset in range(0, spec.nbytes, CHUNK_BYTES):
            part = memoryview(self._buffer)[: min(CHUNK_BYTES, spec.nbytes - offset)]
            self._weights.read_into(name, offset, part)
            hasher.update(part)
            values = torch.frombuffer(self._buffer, dtype=torch.uint8, count=part.nbytes)
            elements = values.view(TORCH_DTYPES[spec.dtype])
            first = elements[:1].clone() if first is None else first
            # Almost every tensor differs within its first elements: the rest is looked at only when it does not.
            constant = constant and bool((elements[:64] == first).all()) and bool((elements == first).all())
            if spec.dtype.is_float:
                squares.append(self._square(elements, spec))
            self._done += part.nbytes
            self._progress(self._done, self._total)
        raw = hasher.digest()
        self.content.add(name, spec.dtype, spec.shape, raw)
        self.digests[name] = digest_of(raw)
        if constant and first is not None:
            self.constant.add(name)
        if spec.dtype.is_float:
            self.squared_norms[name] = math.fsum(squares)

    def _square(self, elements: torch.Tensor, spec: TensorSpec) -> float:
        """Squared norm in float64; a NaN or an infinity shows in it."""
        square = squared_norm(elements)
        if not math.isfinite(square):
            raise RejectedError(
                RejectReason.NOT_FINITE,
                f"{self._weights.file_of(spec.name)}: tensor {spec.name!r}: has NaN or infinite values",
                hint="A merge cannot start from this base: download it again, or repair the tensor.",
            )
        return square


def survey_of(weights: WeightFiles, progress: ByteProgress) -> Survey:
    """Read every tensor once. Raises RejectedError: NOT_FINITE; TransientError: as ``WeightFiles.read_into``."""
    survey = Survey(weights, progress)
    for name in weights.specs:
        survey.read(name)
    return survey
