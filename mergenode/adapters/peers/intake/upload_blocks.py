"""The blocks of one upload: which are wanted, judged, written and safe."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import grpc
from blake3 import blake3

from mergenode.adapters.checkpoints.digest import ContentDigest
from mergenode.adapters.durable import disk_errors, replace_file
from mergenode.adapters.peers.intake.intake_refusals import RefusedError
from mergenode.adapters.peers.intake.staging import StagedWeights
from mergenode.adapters.peers.intake.upload_terms import invalid
from mergenode.errors import RejectedError
from mergenode.types import Digest
from mergenode.wire.blocks import BLOCK_BYTES, BlockId, block_count, block_id
from mergenode.wire.encoding import Encoded, decode_block
from mergenode.wire.journal import Journal, bits_of, indexes_in, pack_journal, parse_journal
from mergenode.wire.manifest import BlockPlace, Manifest
from mergenode.wire.transfer import Transfer, Verdict
from mergenode.wire.transfer import begin as begin_transfer
from mergenode.wire.wanted import lacking

Stop = Callable[[], None]
"""Called between blocks of long work; raises when the node is ending."""

_HERE = "this node"
_WASTED_BYTES = 64 << 20
_WASTED_SHARE = 0.05
_MOST_STRIKES = 64


class UploadBlocks:
    """Manifest, file and journal while somebody works on them. Any thread may call; no call holds others up for longer
    than one block takes, but for the first and the last look at everything."""

    def __init__(self, journal: Path, manifest: Manifest, staged: StagedWeights) -> None:
        """Takes over ``staged``, not opened yet, and goes on where ``journal`` stands."""
        self.manifest = manifest
        self._journal = journal
        self._staged = staged
        self._lock = threading.RLock()
        self._wasted = 0
        self._repeats = lacking(manifest).repeats
        # What equals another block of this model is copied here, so it need not be sent.
        self._asked = ((1 << manifest.block_count) - 1) ^ bits_of(self._repeats)
        self._transfer = _resumed(manifest, journal, staged)

    @property
    def wanted(self) -> int:
        """Blocks that have to be sent, bit i for block i."""
        return self._transfer.wanted & self._asked

    def place(self, index: int) -> BlockPlace:
        """Raises RefusedError when there is no such block."""
        try:
            return self.manifest.place(index)
        except IndexError as error:
            raise invalid(f"there is no block {index}, there are {self.manifest.block_count}") from error

    def put(self, index: int, encoded: Encoded, source: str) -> Verdict:
        """A block that ``source`` sent. It counts once its bytes hash to its id and were written.

        Durability: after the next ``sync``, which happens by itself when all are there and as ``sync_bytes`` says, of
        small uploads after 8 MiB. Memory: twice the block.

        Raises:
            RefusedError: no such block, a difference against a base, or far more than was asked for.
            TransientError: the disk is full or failing.
        """
        place = self.place(index)
        if not self.wanted >> index & 1:
            self._waste(len(encoded.payload))
            return Verdict.REPEATED
        if encoded.encoding.needs_base:
            raise invalid("differences against a base are not taken from pushers")
        try:
            data = decode_block(encoded, place.tensor.spec.dtype, place.length)
        except RejectedError:
            data = memoryview(b"")
        verdict = self._take(place, data, source)
        if verdict is not Verdict.VERIFIED:
            self._waste(len(encoded.payload))
        return verdict

    def copy_held(self, read: Callable[[BlockId], bytes | None], stop: Stop) -> None:
        """Take the blocks that lie here already; ``read`` gives them by id."""
        for index in list(indexes_in(self.wanted)):
            stop()
            place = self.manifest.place(index)
            data = read(place.id)
            if data is not None:
                self._take(place, data)
        self.sync()

    def fill_repeats(self, stop: Stop) -> None:
        """Write the blocks that equal another one of the same model."""
        for index in list(indexes_in(self._transfer.wanted & ~self._asked)):
            stop()
            self._take(self.manifest.place(index), self._staged.read(self.manifest.place(self._repeats[index])))
        self.sync()

    def sync(self) -> None:
        """Durability: every block that was taken is on disk, and the journal says so."""
        with self._lock:
            if self._transfer.verified:
                self._staged.sync()  # STRICTLY before the journal that speaks of these bytes
                self._store(self._transfer.synced())

    def verified_content(self, settings: bytes, stop: Stop) -> Digest:
        """Hash everything once more from disk; the content digest of the checkpoint with these adapter settings.

        Raises RefusedError (FAILED_PRECONDITION) when blocks are missing, or the disk does not hold what was written.
        """
        identity, unsound = ContentDigest(), list(indexes_in(self._transfer.wanted))
        if unsound:
            raise incomplete(len(unsound), self.manifest.block_count)
        places = self.manifest.places()
        for entry in self.manifest.tensors:
            hasher = blake3()
            for _ in range(block_count(entry.spec.nbytes)):
                stop()
                place = next(places)
                data = self._staged.read(place)
                hasher.update(data)
                if block_id(data) != place.id:
                    unsound.append(place.index)
            identity.add(entry.spec.name, entry.spec.dtype, entry.spec.shape, hasher.digest())
        if unsound:
            self._lose(unsound)
            raise incomplete(len(unsound), self.manifest.block_count)
        return identity.finish(settings)

    def written_bytes(self) -> int:
        """Of the blocks that are here."""
        here = self._transfer.written | self._transfer.verified
        return sum(place.length for place in self.manifest.places() if here >> place.index & 1)

    def close(self) -> None:
        """Sync and release the descriptor."""
        try:
            self.sync()
        finally:
            self._staged.close()

    def _take(self, place: BlockPlace, data: bytes | memoryview, source: str = _HERE) -> Verdict:
        with self._lock:
            transfer, verdict = self._transfer.received(place, data, source)
            if verdict is Verdict.VERIFIED:
                self._staged.write(place, data)
            elif source == _HERE:  # what this node could not give itself is no fault of a pusher
                return verdict
            self._transfer = transfer
            # The rule of transfers would sync every tensor of a small model, however small.
            due = transfer.unsynced >= max(transfer.sync_at, BLOCK_BYTES)
            if due or (transfer.verified and not self.wanted):
                self.sync()
            return Verdict.BANNED if len(transfer.struck) > _MOST_STRIKES else verdict

    def _lose(self, indexes: list[int]) -> None:
        with self._lock:
            self._asked |= bits_of(indexes)  # a repeat is made of what it repeats, which may be gone too
            self._store(self._transfer.lost(indexes))

    def _store(self, transfer: Transfer) -> None:
        with disk_errors(self._journal):
            replace_file(self._journal, pack_journal(transfer.journal))
        self._transfer = transfer

    def _waste(self, nbytes: int) -> None:
        with self._lock:
            self._wasted += nbytes
            if self._wasted > _WASTED_BYTES + _WASTED_SHARE * self.manifest.total_bytes:
                raise RefusedError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"{self._wasted} bytes came that were not wanted, or not the blocks they claimed to be",
                    hint="Ask which blocks are wanted and send those.",
                )


def incomplete(lacking_blocks: int, blocks: int) -> RefusedError:
    """The refusal of a commit that comes too early."""
    return RefusedError(
        grpc.StatusCode.FAILED_PRECONDITION,
        f"{lacking_blocks} of {blocks} blocks are missing",
        hint="Send what Missing names, then commit again.",
    )


def _resumed(manifest: Manifest, journal: Path, staged: StagedWeights) -> Transfer:
    """From the journal; a damaged one costs a look at everything on disk, a missing file everything."""
    if not staged.open():
        staged.close()
        staged.create()
        return begin_transfer(manifest)
    blocks = manifest.block_count
    with disk_errors(journal):
        data = journal.read_bytes()
    try:
        return begin_transfer(manifest, parse_journal(data, manifest.root, blocks))
    except RejectedError:
        sound = (place.index for place in manifest.places() if block_id(staged.read(place)) == place.id)
        return begin_transfer(manifest, Journal(manifest.root, blocks, bits_of(sound)))
