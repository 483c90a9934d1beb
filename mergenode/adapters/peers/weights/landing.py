"""Where a transfer lands: the file at its final size, the state of every block, and what syncs it behind the back.

Blocks are written and hashed by one thread; another one syncs the file and then stores the journal, so that the line
does not wait for the disk. The first waits when more than one percent of the transfer, or more than one block, is
unsynced: that and a block is the most that a death costs.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from mergenode.adapters.checkpoints.regular_file import pread_into
from mergenode.adapters.durable import disk_errors, replace_file, sync_directory, write_all
from mergenode.adapters.peers.weights.journal_file import JournalFile
from mergenode.adapters.peers.weights.one_file import plan_file
from mergenode.adapters.peers.weights.shelf import Shelf
from mergenode.adapters.peers.weights.shelf_files import MANIFEST, WHOLE
from mergenode.errors import FatalError, MergenodeError
from mergenode.wire.blocks import BLOCK_BYTES, BlockId, block_id
from mergenode.wire.journal import Journal, indexes_in
from mergenode.wire.manifest import BlockPlace, Manifest
from mergenode.wire.transfer import Transfer, Verdict, begin, unsound_blocks

_STAT_BLOCK = 512


class Landing:
    """One transfer on disk. One thread writes; use it in ``with``. What is on disk at the end of that is resumed."""

    def __init__(self, shelf: Shelf, manifest: Manifest) -> None:
        """Allocates what is missing, takes up the journal.

        Raises:
            TransientError: DISK_FULL (nothing was allocated then), WRITE_FAILED, READ_FAILED.
        """
        self.manifest, self.plan = manifest, plan_file(manifest)
        self._folder = shelf.staging(manifest.root)
        with disk_errors(self._folder):
            self._fd, self._journal, found = self._allocate(shelf)
        self.state: Transfer = begin(manifest, found)
        self.inherited = self.state.written
        """Blocks of an earlier life, bit i is block i: they are hashed from disk before the end."""
        self.done_bytes = manifest.total_bytes - self._bytes_of(self.state.wanted)
        """Of blocks that are here."""
        longest = max((place.length for place in manifest.places()), default=0)
        self._most_unsynced = max(self.state.sync_at, manifest.total_bytes // 100, longest)
        self._changed = threading.Condition()
        self._failed: MergenodeError | None = None
        self._ending = False
        self._thread = threading.Thread(target=self._sync_behind, name="landing", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What was verified is synced and in the journal, unless the disk refuses."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join()
        self._journal.close()
        os.close(self._fd)

    def write(self, place: BlockPlace, first: int, data: bytes | memoryview) -> None:
        """Bytes of a wanted block from ``first`` on. They count for nothing until ``judge`` says so."""
        with disk_errors(self._folder):
            write_all(self._fd, data, self.plan.offset(place) + first)

    def read(self, place: BlockPlace, buffer: memoryview) -> memoryview:
        """What lies at the place of a block."""
        block = buffer[: place.length]
        pread_into(self._fd, self.plan.offset(place), block, f"transfer: block {place.index}")
        return block

    def judge(self, place: BlockPlace, found: BlockId | None, source: str) -> Verdict:
        """The block that was written has the id ``found``; None: it was no block at all.

        Raises:
            TransientError: the file could not be synced.
        """
        with self._changed:
            self.state, verdict = self.state.hashed(place, found, source)
            if self.state.sync_due:
                self._changed.notify_all()
            while self.state.unsynced > self._most_unsynced and self._failed is None:
                self._changed.wait()
            self._raise_failure()
        if verdict is Verdict.VERIFIED:
            self.done_bytes += place.length
        return verdict

    def copy(self, place: BlockPlace, data: memoryview, source: str) -> bool:
        """Take a block from elsewhere on this machine; whether it was that block."""
        if block_id(data) != place.id:
            return False
        self.write(place, 0, data)
        return self.judge(place, place.id, source) is Verdict.VERIFIED

    def finish(self) -> bool:
        """Sync everything and hash once more what an earlier life wrote. False: some blocks are wanted again.

        Blocks of this life were hashed in memory before they were written; reading them back would only show what the
        page cache holds.
        """
        with self._changed:
            while not self.state.complete and not self.state.wanted and self._failed is None:
                self._changed.notify_all()
                self._changed.wait()
            self._raise_failure()
        buffer = memoryview(bytearray(BLOCK_BYTES))
        places = {place.offset: place for place in map(self.manifest.place, indexes_in(self.inherited))}
        lost = unsound_blocks(
            self.manifest,
            (place.index for place in places.values()),
            lambda offset, length: self.read(places[offset], buffer),
        )
        with self._changed:
            self.state, self.inherited = self.state.lost(lost), 0
        self.done_bytes -= sum(self.manifest.place(index).length for index in lost)
        return self.state.complete

    def _allocate(self, shelf: Shelf) -> tuple[int, JournalFile, Journal | None]:
        """The open file at its final size, the open journal, and what it says if it fits the file.

        What did not fit on the disk is given back.
        """
        root, path = self.manifest.root, self._folder / WHOLE
        before = path.stat().st_blocks * _STAT_BLOCK if path.exists() else 0
        shelf.check_room(self.plan.size, before)
        self._folder.mkdir(exist_ok=True)
        if not (self._folder / MANIFEST).exists():
            replace_file(self._folder / MANIFEST, self.manifest.packed)
        with ExitStack() as stack:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            stack.callback(os.close, fd)
            stack.callback(os.ftruncate, fd, 0)
            journal = JournalFile(self._folder, root, self.manifest.block_count)
            stack.callback(journal.close)
            found = journal.found
            if os.fstat(fd).st_size != self.plan.size:
                found = None
                os.ftruncate(fd, 0)
            os.posix_fallocate(fd, 0, self.plan.size)
            write_all(fd, self.plan.header, 0)
            sync_directory(self._folder)
            sync_directory(self._folder.parent)
            stack.pop_all()
        return fd, journal, found

    def _sync_behind(self) -> None:
        """Until the end: sync, store the journal, say so. Whoever waits is told when this ends in any other way."""
        ended = False
        try:
            self._sync_until_end()
            ended = True
        finally:
            if not ended:
                with self._changed:
                    hint = "This is a defect; the transfer goes on in another life."
                    self._failed = FatalError(f"transfer {self.manifest.root.hex()[:12]}: syncing ended", hint=hint)
                    self._changed.notify_all()

    def _sync_until_end(self) -> None:
        while True:
            with self._changed:
                while not (self.state.sync_due or self._ending):
                    self._changed.wait()
                begun = self.state
            if begun.verified and not self._synced(begun):
                return
            with self._changed:
                if self._ending and not self.state.verified:
                    return

    def _synced(self, begun: Transfer) -> bool:
        """Make durable what was verified when ``begun`` was the state."""
        failed: MergenodeError | None = None
        try:
            with disk_errors(self._folder):
                os.fdatasync(self._fd)
                self._journal.store(begun.synced().journal)
        except MergenodeError as error:
            failed = error
        with self._changed:
            self._failed = failed
            if failed is None:
                self.state = self.state.synced(begun)
            self._changed.notify_all()
        return failed is None

    def _bytes_of(self, blocks: int) -> int:
        return sum(self.manifest.place(index).length for index in indexes_in(blocks))

    def _raise_failure(self) -> None:
        if self._failed is not None:
            raise self._failed
