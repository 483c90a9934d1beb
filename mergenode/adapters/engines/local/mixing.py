"""Whole models mixed out of core: inspected, measured against each other and added up, a slice at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import torch
from torch import Tensor

from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.checkpoints.torch_dtypes import TORCH_DTYPES
from mergenode.adapters.checkpoints.weights import DEFAULT_LIMITS, WeightFiles, open_weights
from mergenode.adapters.checkpoints.writer import SafetensorsWriter, header_reserve
from mergenode.adapters.durable import disk_errors
from mergenode.adapters.engines.local.export import output_spec, to_output
from mergenode.adapters.engines.local.tensors import SLICE_ELEMENTS, as_bytes, read_slice
from mergenode.errors import FatalError, RejectedError
from mergenode.maths.threads import one_thread
from mergenode.mixers.defence import Geometry, Recipe, mixed_block
from mergenode.ports.rounds import Inspected
from mergenode.types import Digest, DType, TensorSpec

WEIGHTS = "model.safetensors"
METADATA = {"format": "pt"}

_Block = Callable[[TensorSpec, tuple[int, int]], Tensor]
"""The elements of a flattened tensor from, to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModels:
    """Implements ports.rounds.Models. Memory: a slice of 2 MiB in fp64 for each model that takes part, twice.

    Sums go over a fixed grid of slices with one thread: the same input gives the same bytes on every run.
    """

    limits: Limits = DEFAULT_LIMITS
    publish_dtype: DType | None = None

    def unite(self, checkpoint: Path, target: Path) -> None:
        with open_weights(checkpoint, root=trusted_root(checkpoint), limits=self.limits) as files:
            if files.adapter:
                raise FatalError(
                    f"{checkpoint}: is an adapter, a node starts with full weights",
                    hint="Merge it into its base first: mergenode merge --base BASE --output DIR ADAPTER.",
                )
            _write(target, list(files.specs.values()), lambda spec, part: read_slice(files, spec, *part)[0])
            files.assert_unchanged()

    def inspect(self, own: Path, other: Path) -> Inspected:
        try:
            with self._open(own) as ours, open_weights(other, limits=self.limits) as theirs:
                odd = _first_difference(ours, theirs)
                if odd:
                    return Inspected(0.0, "schema", odd)
                return _inspected(theirs)
        except RejectedError as error:
            return Inspected(0.0, error.reason.value, error.message)

    def measure(self, own: Path, start: Path, others: Sequence[Path]) -> Geometry:
        count = len(others)
        gram = torch.zeros(count + 1, count + 1, dtype=torch.float64)
        with ExitStack() as stack, one_thread():
            ours, before, *theirs = [stack.enter_context(self._open(path)) for path in (own, start, *others)]
            for spec, part in _grid(_floating(ours)):
                centre = read_slice(ours, spec, *part)[0].double()
                rows = [read_slice(files, spec, *part)[0].double() - centre for files in theirs]
                rows.append(centre - read_slice(before, spec, *part)[0].double())
                block = torch.stack(rows)
                gram += block @ block.mT
        values = gram.tolist()
        return Geometry(
            gram=tuple(tuple(row[:count]) for row in values[:count]),
            along=tuple(values[count][:count]),
            update_sq=values[count][count],
        )

    def mix(self, own: Path, others: Sequence[Path], recipe: Recipe, target: Path) -> None:
        with ExitStack() as stack, one_thread():
            ours, *theirs = [stack.enter_context(self._open(path)) for path in (own, *others)]

            def block(spec: TensorSpec, part: tuple[int, int]) -> Tensor:
                centre = read_slice(ours, spec, *part)[0]
                if not spec.dtype.is_float:
                    return centre
                return mixed_block(recipe, centre, [read_slice(files, spec, *part)[0] for files in theirs])

            _write(target, list(ours.specs.values()), block)

    def content(self, model: Path) -> Digest:
        return content_digest(model, limits=self.limits)

    def export(self, model: Path, staging: str) -> Mapping[str, Digest]:
        with self._open(model) as files:
            targets = {spec.name: output_spec(spec, self.publish_dtype) for spec in files.specs.values()}

            def block(target: TensorSpec, part: tuple[int, int]) -> Tensor:
                values = read_slice(files, files.specs[target.name], *part)[0]
                return to_output(values, TORCH_DTYPES[target.dtype]) if target.dtype.is_float else values

            return _write(Path(staging) / WEIGHTS, list(targets.values()), block)

    def _open(self, path: Path) -> WeightFiles:
        return open_weights(path, limits=self.limits)


def write_model(path: Path, specs: Sequence[TensorSpec], tensors: Mapping[str, Tensor]) -> None:
    """A model in one file, each tensor as its spec declares it. Durability: content is synced, the name is not."""

    def block(spec: TensorSpec, part: tuple[int, int]) -> Tensor:
        return tensors[spec.name].detach().cpu().reshape(-1)[slice(*part)].to(TORCH_DTYPES[spec.dtype])

    _write(path, specs, block)


def _write(path: Path, specs: Sequence[TensorSpec], block: _Block) -> dict[str, Digest]:
    with disk_errors(path.parent):
        writer = SafetensorsWriter(path, reserve=header_reserve(list(specs), METADATA), metadata=METADATA)
        try:
            for spec in specs:
                region = writer.allocate(spec)
                for part in _parts(spec):
                    writer.append(region.spec.name, as_bytes(block(spec, part).contiguous()))
            writer.finish()
            return {name: region.digest for name, region in writer.regions.items()}
        finally:
            writer.close()


def _grid(specs: Sequence[TensorSpec]) -> Iterator[tuple[TensorSpec, tuple[int, int]]]:
    for spec in specs:
        for part in _parts(spec):
            yield spec, part


def _parts(spec: TensorSpec) -> list[tuple[int, int]]:
    return [(first, min(first + SLICE_ELEMENTS, spec.numel)) for first in range(0, max(spec.numel, 1), SLICE_ELEMENTS)]


def _floating(files: WeightFiles) -> list[TensorSpec]:
    return [files.specs[name] for name in sorted(files.specs) if files.specs[name].dtype.is_float]


def _first_difference(ours: WeightFiles, theirs: WeightFiles) -> str:
    for name in sorted(ours.specs.keys() | theirs.specs.keys()):
        own, other = ours.specs.get(name), theirs.specs.get(name)
        if own is None or other is None:
            return f"tensor {name!r} is {'surplus' if own is None else 'missing'}"
        if own != other:
            return f"tensor {name!r} is {other.dtype} {list(other.shape)} and should be {own.dtype} {list(own.shape)}"
    return ""


def _inspected(files: WeightFiles) -> Inspected:
    total = 0.0
    with one_thread():
        for spec, part in _grid(_floating(files)):
            values = read_slice(files, spec, *part)[0].double()
            if not bool(values.isfinite().all()):
                return Inspected(0.0, "not_finite", f"tensor {spec.name!r} holds NaN or an infinity")
            total += float(values.square().sum())
    files.assert_unchanged()
    return Inspected(sqrt(total))
