"""Transfers that are begun and not complete, read from the shelf of a node: while it does not run, or from outside."""

from __future__ import annotations

import os
from pathlib import Path

from mergenode.adapters.peers.weights.journal_file import load_journal
from mergenode.adapters.peers.weights.shelf import FETCHING, read_manifest
from mergenode.errors import MergenodeError
from mergenode.ports.activity import Activity, ActivityKind
from mergenode.wire.blocks import Root
from mergenode.wire.journal import indexes_in


def unfinished_transfers(shelf: Path) -> list[Activity]:
    """What would go on in another life, as far as it is on disk. What cannot be read is passed over."""
    try:
        names = sorted(name for name in os.listdir(shelf) if name.startswith(".") and name.endswith(FETCHING))
    except OSError:
        return []
    found = [_transfer(shelf / name) for name in names]
    return [transfer for transfer in found if transfer is not None]


def _transfer(folder: Path) -> Activity | None:
    try:
        root = Root(bytes.fromhex(folder.name.removeprefix(".").removesuffix(FETCHING)))
        manifest = read_manifest(folder, root)
        journal = load_journal(folder, root, manifest.block_count)
    except (MergenodeError, OSError, ValueError):
        return None
    written = 0 if journal is None else journal.written
    return Activity(
        kind=ActivityKind.TRANSFER,
        subject=f"model {root.hex()[:12]}",
        bytes_done=sum(manifest.place(index).length for index in indexes_in(written)),
        bytes_total=manifest.total_bytes,
        step="blocks",
        steps_done=written.bit_count(),
        steps_total=manifest.block_count,
    )
