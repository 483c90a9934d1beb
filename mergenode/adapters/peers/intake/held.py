"""A model that lies here and whose blocks need not be sent: the base."""

from __future__ import annotations

import threading
from pathlib import Path

from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.errors import RejectedError, TransientError
from mergenode.wire.blocks import BlockId
from mergenode.wire.describing import describe
from mergenode.wire.manifest import BlockPlace, Manifest


class HeldModel:
    """Its blocks by what is in them. Described at the first question, in one pass, then kept; safe from any thread."""

    def __init__(self, path: Path, *, limits: Limits | None = None) -> None:
        self._path = path
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._places: dict[BlockId, BlockPlace] | None = None
        self._weights: WeightFiles | None = None

    def read(self, block: BlockId) -> bytes | None:
        """The bytes of a block, None when it is not here or cannot be read now. Who asks hashes them."""
        with self._lock:
            if self._places is None:
                self._places = self._described()
            place = self._places.get(block)
            if place is None or self._weights is None:
                return None
            buffer = bytearray(place.length)
            try:
                self._weights.read_into(place.tensor.spec.name, place.first_byte, memoryview(buffer))
            except TransientError:
                return None
            return bytes(buffer)

    def close(self) -> None:
        """Release the descriptors. Idempotent."""
        with self._lock:
            if self._weights is not None:
                self._weights.close()
            self._weights, self._places = None, {}

    def _described(self) -> dict[BlockId, BlockPlace]:
        try:
            self._weights = open_weights(self._path, root=trusted_root(self._path), limits=self._limits)
            manifest: Manifest = describe(self._weights.specs.values(), self._weights.read_into)
        except (RejectedError, TransientError):
            return {}  # then everything is sent: slower, never wrong
        return {place.id: place for place in manifest.places()}
