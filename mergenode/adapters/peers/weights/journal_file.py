"""The journal of a transfer on disk."""

from __future__ import annotations

from pathlib import Path

from mergenode.adapters.durable import replace_file
from mergenode.errors import RejectedError
from mergenode.wire.blocks import Root
from mergenode.wire.journal import Journal, pack_journal, parse_journal

JOURNAL = "journal"


def load_journal(folder: Path, root: Root, blocks: int) -> Journal | None:
    """What an earlier life of the transfer of ``root`` wrote; None: nothing, or nothing that can be believed.

    Memory: the journal of ``blocks`` blocks, however long the file is. OSError: it cannot be read.
    """
    longest = len(pack_journal(Journal(root, blocks)))
    try:
        with (folder / JOURNAL).open("rb") as file:
            return parse_journal(file.read(longest + 1), root, blocks)
    except (FileNotFoundError, RejectedError):
        return None


def store_journal(folder: Path, journal: Journal) -> None:
    """Durability: on return. The blocks in it were synced before. OSError: the disk is full or failing."""
    replace_file(folder / JOURNAL, pack_journal(journal))
