"""The journal of a transfer on disk: two copies in one file, written in turn, so that one is always whole.

Replacing the file each time would cost the receiver half a CPU second per GB on ext4, for names and space that change;
here neither does. Each copy has a checksum of its own.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from mergenode.adapters.durable import write_all
from mergenode.errors import RejectedError
from mergenode.wire.blocks import Root
from mergenode.wire.journal import Journal, pack_journal, parse_journal

JOURNAL = "journal"
_PAGE = 4096


class JournalFile:
    """Open for writing; ``close`` it. One thread."""

    def __init__(self, folder: Path, root: Root, blocks: int) -> None:
        """Opens or makes the file of the transfer of ``root``. OSError: the disk is full or failing.

        Durability: its space is there on return, its name when the folder was synced.
        """
        self._length = len(pack_journal(Journal(root, blocks)))
        self._slot = _slot_bytes(self._length)
        self._next = 0
        self._fd = os.open(folder / JOURNAL, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        complete = False
        try:
            if os.fstat(self._fd).st_size != 2 * self._slot:
                os.ftruncate(self._fd, 0)
                write_all(self._fd, bytes(2 * self._slot), 0)
                os.fsync(self._fd)
            complete = True
        finally:
            if not complete:
                self.close()
        found = [_copy(self._fd, number, root, blocks) for number in range(2)]
        self.found: Journal | None = _newest(found)
        """What an earlier life wrote; None: nothing, or nothing that can be believed."""
        if self.found is not None and found[0] is self.found:
            self._next = 1

    def store(self, journal: Journal) -> None:
        """Durability: on return. The blocks in it were synced before. OSError: the disk is full or failing."""
        write_all(self._fd, pack_journal(journal), self._next * self._slot)
        os.fdatasync(self._fd)
        self._next = 1 - self._next

    def close(self) -> None:
        """Give the descriptor back. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def load_journal(folder: Path, root: Root, blocks: int) -> Journal | None:
    """What the journal in ``folder`` says, whoever writes to it now; None: nothing that can be believed."""
    try:
        fd = os.open(folder / JOURNAL, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        return _newest([_copy(fd, number, root, blocks) for number in range(2)])
    except OSError:
        return None
    finally:
        os.close(fd)


def _copy(fd: int, number: int, root: Root, blocks: int) -> Journal | None:
    """Memory: the journal of ``blocks`` blocks, however long the file is."""
    length = len(pack_journal(Journal(root, blocks)))
    with suppress(RejectedError):
        return parse_journal(os.pread(fd, length, number * _slot_bytes(length)), root, blocks)
    return None


def _newest(copies: list[Journal | None]) -> Journal | None:
    """The one with more blocks: what is written stays written, or is found to be lost again before the end."""
    return max((copy for copy in copies if copy is not None), key=lambda copy: copy.written.bit_count(), default=None)


def _slot_bytes(length: int) -> int:
    return -(-length // _PAGE) * _PAGE
