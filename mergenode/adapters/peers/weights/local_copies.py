"""Blocks of a model that are on this machine already: in other models, in transfers that were given up, in itself."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mergenode.adapters.checkpoints.regular_file import pread_into
from mergenode.adapters.peers.weights.journal_file import load_journal
from mergenode.adapters.peers.weights.landing import Landing
from mergenode.adapters.peers.weights.one_file import plan_file
from mergenode.adapters.peers.weights.shelf import Shelf, held_places, read_manifest
from mergenode.adapters.peers.weights.shelf_files import WHOLE
from mergenode.errors import MergenodeError
from mergenode.wire.blocks import BLOCK_BYTES, BlockId, Root
from mergenode.wire.journal import indexes_in
from mergenode.wire.manifest import BlockPlace, Manifest
from mergenode.wire.wanted import lacking

_HERE = "this node"


def copy_from_shelf(landing: Landing, shelf: Shelf) -> int:
    """Take every block that a model on the shelf has; bytes that need not travel.

    TransientError: the disk is full or failing. What is damaged or gone is left to the network.
    """
    places = held_places(shelf.manifests())
    wanted: dict[Root, list[tuple[BlockPlace, int]]] = defaultdict(list)
    for index in indexes_in(landing.state.wanted):
        place = landing.manifest.place(index)
        if place.id in places:
            root, there = places[place.id]
            wanted[root].append((place, there))
    buffer, copied = memoryview(bytearray(BLOCK_BYTES)), 0
    for root, pairs in wanted.items():
        reader = shelf.open(root)
        if reader is None:
            continue
        with reader:
            for place, there in pairs:
                try:
                    data = reader.read(there, buffer)
                except MergenodeError:
                    break
                copied += landing.copy(place, data, _HERE) * place.length
    return copied


def copy_from_transfers(landing: Landing, shelf: Shelf) -> int:
    """Take what other transfers, given up or under way, have in their journals; bytes that need not travel."""
    buffer, copied = memoryview(bytearray(BLOCK_BYTES)), 0
    for root in shelf.stagings():
        if root == landing.manifest.root or not landing.state.wanted:
            continue
        with _staged(shelf, root) as (fd, manifest, places):
            for index in indexes_in(landing.state.wanted):
                place = landing.manifest.place(index)
                there = places.get(place.id)
                if there is None or manifest is None:
                    continue
                block = buffer[: place.length]
                try:
                    pread_into(fd, plan_file(manifest).offset(there), block, "transfer")
                except MergenodeError:
                    break
                copied += landing.copy(place, block, _HERE) * place.length
    return copied


def copy_repeats(landing: Landing) -> int:
    """Take blocks that are equal to one that is here, from the file itself; bytes that need not travel."""
    buffer, copied, wanted = memoryview(bytearray(BLOCK_BYTES)), 0, landing.state.wanted
    for index, first in lacking(landing.manifest).repeats.items():
        if wanted >> index & 1 and not wanted >> first & 1:
            place = landing.manifest.place(index)
            copied += landing.copy(place, landing.read(landing.manifest.place(first), buffer), _HERE) * place.length
    return copied


def choose_base(manifest: Manifest, shelf: Shelf, prefer: Sequence[Root] = ()) -> Root | None:
    """The model on the shelf to tell a sender of: of those with the same schema the one with most bytes in equal
    tensors. Ties, which are the rule where every tensor was trained, go to the first of ``prefer``, then to the base
    of ``manifest``."""
    ranks = {root: -number for number, root in enumerate((*prefer, *filter(None, (manifest.base_root,))))}
    entries = {entry.spec.name: entry.ids for entry in manifest.tensors}
    best: tuple[int, int, Root] | None = None
    for root, held in shelf.manifests().items():
        if root == manifest.root or held.schema_hash != manifest.schema_hash:
            continue
        equal = sum(entry.spec.nbytes for entry in held.tensors if entries[entry.spec.name] == entry.ids)
        candidate = (equal, ranks.get(root, -len(ranks)), root)
        best = candidate if best is None else max(best, candidate)
    return best[2] if best else None


@contextmanager
def _staged(shelf: Shelf, root: Root) -> Iterator[tuple[int, Manifest | None, dict[BlockId, BlockPlace]]]:
    """Another transfer: its file, its manifest, and where the blocks of its journal lie."""
    folder, fd = shelf.staging(root), -1
    try:
        try:
            manifest = read_manifest(folder, root)
            journal = load_journal(folder, root, manifest.block_count)
            fd = os.open(folder / WHOLE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (MergenodeError, OSError):
            yield -1, None, {}
            return
        written = indexes_in(journal.written) if journal is not None else ()
        yield fd, manifest, {place.id: place for place in map(manifest.place, written)}
    finally:
        if fd >= 0:
            os.close(fd)
