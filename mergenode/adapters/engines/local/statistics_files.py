"""Reading the statistics of a committed generation, a few shards open at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.adapters.engines.local.journal import shard_file
from mergenode.adapters.engines.local.own_files import reading_own
from mergenode.adapters.engines.local.shards import statistic_key
from mergenode.adapters.engines.local.tensors import read_slice

_OPEN_SHARDS = 8


class StatisticsFiles:
    """The statistics of a generation, a few shards open at a time. Used by one thread."""

    def __init__(self, folder: Path, records: Mapping[int, Mapping[str, Any]]) -> None:
        self._folder = folder
        self._where = {
            name: (index, dict(tensor["statistics"]))
            for index, record in records.items()
            for name, tensor in record["tensors"].items()
        }
        self._open: OrderedDict[int, WeightFiles] = OrderedDict()

    def digests(self, tensor: str) -> Mapping[str, str]:
        """Digests of a tensor's statistics by their names; empty when nothing was folded into it."""
        return self._where[tensor][1] if tensor in self._where else {}

    def read(self, tensor: str, bounds: tuple[int, int] | None) -> dict[str, Tensor]:
        """The statistics of a slice, flat; of the whole tensor, each in its own shape, with ``bounds`` None."""
        out = {}
        for name in self.digests(tensor):
            with reading_own("statistics"):
                files = self._shard(self._where[tensor][0])
                spec = files.specs[statistic_key(name, tensor)]
                flat, _ = read_slice(files, spec, *(bounds or (0, spec.numel)))
            out[name] = flat if bounds else flat.view(spec.shape)
        return out

    def _shard(self, index: int) -> WeightFiles:
        if index not in self._open:
            if len(self._open) >= _OPEN_SHARDS:
                self._open.popitem(last=False)[1].close()
            self._open[index] = open_weights(self._folder / shard_file(index))
        self._open.move_to_end(index)
        return self._open[index]

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()
