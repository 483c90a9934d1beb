"""Reading one entry of the shelf: only bytes that are what the manifest says ever come out."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from blake3 import blake3

from mergenode.adapters.peers.weights.shelf_files import EntryFiles
from mergenode.errors import RejectedError, RejectReason
from mergenode.wire.blocks import Root
from mergenode.wire.manifest import Manifest

if TYPE_CHECKING:
    from mergenode.adapters.peers.weights.shelf import Shelf


class ShelfReader:
    """Close it, or use it in ``with``. Safe from several threads, and while the entry is removed."""

    def __init__(self, shelf: Shelf, root: Root, manifest: Manifest, files: EntryFiles) -> None:
        """Takes ownership of ``files``; ``Shelf.open`` is the way to get one."""
        self.root, self.manifest = root, manifest
        self._shelf, self._files = shelf, files

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptors back."""
        self._files.close()

    def read(self, index: int, buffer: memoryview, caller: str | None = None) -> memoryview:
        """The bytes of block ``index``, in the first bytes of ``buffer``, which stays the caller's.

        They are hashed unless this process hashed them before in files that nobody wrote to since; for a ``caller``
        who asks for a block a second time they are hashed anyway, because then something went wrong.

        Raises:
            RejectedError: DIGEST_MISMATCH; the entry is damaged, and gone from the shelf.
            TransientError: READ_FAILED.
        """
        block = buffer[: self.manifest.place(index).length]
        self.read_pieces(index, [block], caller)
        return block

    def read_pieces(self, index: int, pieces: Sequence[memoryview], caller: str | None = None) -> None:
        """``read`` into several buffers, one after another; together they are as long as the block."""
        place = self.manifest.place(index)
        at = 0
        for piece in pieces:
            self._files.read_into(place, at, piece)
            at += len(piece)
        if self._shelf.is_verified(self.root, index, caller):
            return
        hasher = blake3()
        for piece in pieces:
            hasher.update(piece)
        if hasher.digest() != place.id:
            fault = f"block {index} of tensor {place.tensor.spec.name!r} is damaged on disk"
            self._shelf.damaged(self.root, fault)
            raise RejectedError(
                RejectReason.DIGEST_MISMATCH,
                f"shelf: {self.root.hex()[:12]}: {fault}",
                hint="The entry was removed and is fetched or offered again; check the disk.",
            )
        self._shelf.note_verified(self.root, index, self._files.identities)
