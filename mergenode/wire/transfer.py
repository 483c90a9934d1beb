"""A transfer as a value: which blocks are wanted, verified, written, and whom to ask no more.

    wanted --bytes that hash to the id--> verified --the file was synced--> written (and in the journal)

A block counts as written only when its bytes were synced before the journal that says so. Killed at any point, what
is in the journal is on disk; at most ``sync_bytes`` and one block are fetched again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from mergenode.wire.blocks import BLOCK_BYTES, BlockId, Root, block_id
from mergenode.wire.journal import Journal, bits_of, indexes_in
from mergenode.wire.manifest import BlockPlace, Manifest
from mergenode.wire.wanted import Run, runs_of

_MOST_UNSYNCED = 256 << 20


class Verdict(StrEnum):
    """What a received block is worth, and what to do."""

    VERIFIED = "verified"
    """Write it at its offset."""
    REPEATED = "repeated"
    """It is there already: drop it."""
    UNASKED = "unasked"
    """Nobody asked for it: drop it."""
    CORRUPT = "corrupt"
    """Not the block: ask again, the same source once more."""
    BANNED = "banned"
    """Not the block, the second time from this source: ask another one from now on."""


def sync_bytes(total_bytes: int) -> int:
    """Verified bytes that may be unsynced: with one block more, one percent of the transfer, so that five deaths cost
    five. At least nothing (every block is synced, below 800 MiB), at most 256 MiB."""
    return max(0, min(_MOST_UNSYNCED, total_bytes // 100 - BLOCK_BYTES))


@dataclass(frozen=True, slots=True)
class Transfer:
    """The state of one receiver. Sets of blocks are whole numbers, bit i is block i; they do not overlap.

    ``wanted``: not here yet; ``verified``: written to the file, not synced; ``written``: in the journal.
    ``unsynced``: bytes of ``verified``. ``struck``: (source, block) of first failures; ``banned``: sources.
    """

    root: Root
    blocks: int
    sync_at: int
    wanted: int
    verified: int = 0
    written: int = 0
    unsynced: int = 0
    struck: frozenset[tuple[str, int]] = frozenset()
    banned: frozenset[str] = frozenset()

    @property
    def complete(self) -> bool:
        """Everything is on disk."""
        return not self.wanted and not self.verified

    @property
    def sync_due(self) -> bool:
        """Sync the file now, then store ``synced().journal``."""
        return self.unsynced > self.sync_at or (self.verified != 0 and not self.wanted)

    @property
    def journal(self) -> Journal:
        """What to remember."""
        return Journal(self.root, self.blocks, self.written)

    def requests(self, most: int) -> list[Run]:
        """The next wanted blocks, at most ``most`` of them, as runs for a request."""
        return runs_of(index for _, index in zip(range(most), indexes_in(self.wanted), strict=False))

    def received(self, place: BlockPlace, data: bytes | memoryview, source: str) -> tuple[Transfer, Verdict]:
        """Judge the decoded bytes of a block from ``source``. On VERIFIED the caller writes them, then goes on.

        Payloads that cannot be decoded are judged by ``failed``.
        """
        if self.wanted >> place.index & 1 and len(data) == place.length:
            return self.hashed(place, block_id(data), source)
        return self.hashed(place, None, source)

    def hashed(self, place: BlockPlace, found: BlockId | None, source: str) -> tuple[Transfer, Verdict]:
        """``received`` for bytes that were written and hashed on the way. None: they had another length."""
        bit = 1 << place.index
        if (self.verified | self.written) & bit:
            return self, Verdict.REPEATED
        if not self.wanted & bit:
            return self, Verdict.UNASKED
        if found != place.id:
            return self.failed(place.index, source)
        state = replace(
            self, wanted=self.wanted ^ bit, verified=self.verified | bit, unsynced=self.unsynced + place.length
        )
        return state, Verdict.VERIFIED

    def failed(self, index: int, source: str) -> tuple[Transfer, Verdict]:
        """``source`` sent something else for block ``index``. The block stays wanted."""
        strike = (source, index)
        if strike in self.struck:
            return replace(self, banned=self.banned | {source}), Verdict.BANNED
        return replace(self, struck=self.struck | {strike}), Verdict.CORRUPT

    def synced(self, upto: Transfer | None = None) -> Transfer:
        """The file was synced after the last write. Durability: store ``journal`` of the result, then go on.

        ``upto``: this transfer as it was when the sync began, where blocks were verified meanwhile.
        """
        done = upto or self
        return replace(
            self,
            written=self.written | done.verified,
            verified=self.verified & ~done.verified,
            unsynced=self.unsynced - done.unsynced,
        )

    def lost(self, indexes: Iterable[int]) -> Transfer:
        """Blocks that turned out not to be on disk are wanted again."""
        gone = bits_of(indexes) & self.written
        return replace(self, wanted=self.wanted | gone, written=self.written ^ gone)


def begin(manifest: Manifest, journal: Journal | None = None) -> Transfer:
    """A transfer of all blocks of ``manifest``, or the rest of it when there is a ``journal`` of an earlier life.

    Blocks that the receiver holds elsewhere go through ``received`` like any other, from a source of their own name.
    ValueError: the journal is of another manifest.
    """
    blocks = manifest.block_count
    if journal is not None and (journal.root, journal.blocks) != (manifest.root, blocks):
        raise ValueError("the journal is of another manifest")
    written = journal.written if journal is not None else 0
    every = (1 << blocks) - 1
    return Transfer(manifest.root, blocks, sync_bytes(manifest.total_bytes), every ^ written, written=written)


def unsound_blocks(
    manifest: Manifest, indexes: Iterable[int], read: Callable[[int, int], bytes | memoryview]
) -> list[int]:
    """Those of ``indexes`` whose bytes on disk are not the block. ``read(offset, length)`` may come back short.

    Before a file is made visible the blocks of earlier lives are checked like this: the disk is believed no more than
    a peer.
    """
    places = map(manifest.place, indexes)
    return [place.index for place in places if block_id(read(place.offset, place.length)) != place.id]
