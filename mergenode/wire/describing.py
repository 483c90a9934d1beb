"""From weights to their manifest, in one pass over the bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mergenode.types import TensorSpec
from mergenode.wire.blocks import BLOCK_BYTES, Root, block_id, block_lengths
from mergenode.wire.manifest import Manifest, TensorEntry, manifest_of
from mergenode.wire.values import ValueSurvey

ReadInto = Callable[[str, int, memoryview], None]
"""Fills a buffer with bytes of a tensor (by name) from an offset on; ``WeightFiles.read_into`` is one."""


def describe(specs: Iterable[TensorSpec], read_into: ReadInto, base_root: Root | None = None) -> Manifest:
    """The manifest of the tensors ``specs`` whose bytes ``read_into`` gives.

    Equal weights give equal bytes, whatever files, shards, headers and machine they come from. Memory: one block and
    the manifest. Errors of ``read_into`` pass through. ValueError: a name is there twice.
    """
    buffer = memoryview(bytearray(BLOCK_BYTES))
    return manifest_of([_entry(spec, read_into, buffer) for spec in specs], base_root)


def _entry(spec: TensorSpec, read_into: ReadInto, buffer: memoryview) -> TensorEntry:
    survey, ids, first = ValueSurvey(spec.dtype), [], 0
    for length in block_lengths(spec.nbytes):
        block = buffer[:length]
        read_into(spec.name, first, block)
        survey.add(block)
        ids.append(block_id(block))
        first += length
    return TensorEntry(spec, b"".join(ids), survey.figures())
