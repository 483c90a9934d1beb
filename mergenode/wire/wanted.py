"""What a receiver lacks, and how it says so."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mergenode.errors import RejectedError
from mergenode.wire.blocks import BLOCK_BYTES, BlockId, block_count
from mergenode.wire.manifest import BlockPlace, Manifest, TensorEntry
from mergenode.wire.packing import malformed

Run = tuple[int, int]
"""First block index and number of blocks."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """Blocks of one manifest by how they are got, as indexes. Every block is in exactly one of the three."""

    fetch: tuple[int, ...] = ()
    held: tuple[int, ...] = ()
    """In another model that the receiver holds."""
    repeats: Mapping[int, int] = field(default_factory=dict)
    """Equal to an earlier block of the same manifest, by its index: fetched once, written twice."""


def lacking(manifest: Manifest, held: Container[BlockId] = frozenset()) -> Lacking:
    """Which blocks a receiver has to fetch that holds the blocks ``held``."""
    fetch: list[int] = []
    copies: list[int] = []
    first_place: dict[BlockId, int] = {}
    repeats: dict[int, int] = {}
    for place in manifest.places():
        if place.id in held:
            copies.append(place.index)
        elif place.id in first_place:
            repeats[place.index] = first_place[place.id]
        else:
            first_place[place.id] = place.index
            fetch.append(place.index)
    return Lacking(tuple(fetch), tuple(copies), repeats)


def held_blocks(manifests: Iterable[Manifest]) -> frozenset[BlockId]:
    """The ids of all blocks of the models that a receiver holds."""
    return frozenset(place.id for manifest in manifests for place in manifest.places())


def changed_tensors(manifest: Manifest, base: Manifest) -> tuple[str, ...]:
    """Names of the tensors whose content no tensor of ``base`` has, in order."""
    known = {entry.tensor_id for entry in base.tensors}
    return tuple(entry.spec.name for entry in manifest.tensors if entry.tensor_id not in known)


class BaseBlocks:
    """Finds the block of a base that a block can be a difference against."""

    def __init__(self, base: Manifest) -> None:
        first, self._base = 0, base
        self._entries: dict[str, tuple[TensorEntry, int]] = {}
        for entry in base.tensors:
            self._entries[entry.spec.name] = (entry, first)
            first += block_count(entry.spec.nbytes)

    def against(self, place: BlockPlace) -> BlockPlace | None:
        """The block at the same place of the tensor of the same name, type and shape; None: there is none."""
        entry, first = self._entries.get(place.tensor.spec.name, (None, 0))
        if entry is None or entry.spec != place.tensor.spec:
            return None
        return self._base.place(first + place.first_byte // BLOCK_BYTES)


def runs_of(indexes: Iterable[int]) -> list[Run]:
    """Ascending block indexes as runs, none touching the next."""
    runs: list[Run] = []
    for index in indexes:
        if runs and runs[-1][0] + runs[-1][1] == index:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((index, 1))
    return runs


def indexes_of(runs: Sequence[Run], blocks: int) -> list[int]:
    """The block indexes of runs as a peer sent them; no run at all asks for all ``blocks`` of the manifest.

    Raises:
        RejectedError: HEADER_INVALID; a run is empty, leaves the manifest, or overlaps, touches or precedes the one
            before it. So the answer is never longer than ``blocks``.
    """
    end = -1
    for first, count in runs:
        if count < 1 or first <= end or first + count > blocks:
            raise _bad_run(first, count, blocks)
        end = first + count
    if not runs:
        return list(range(blocks))
    return [index for first, count in runs for index in range(first, first + count)]


def _bad_run(first: int, count: int, blocks: int) -> RejectedError:
    return malformed(
        "request for blocks", f"{count} blocks from {first} on, of {blocks}: empty, outside or out of order"
    )
