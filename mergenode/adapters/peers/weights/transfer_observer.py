"""What is told of transfers and of the shelf while they happen; metrics and logs listen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mergenode.wire.blocks import Root
from mergenode.wire.encoding import Encoding


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """``done``: bytes of verified blocks, whether they travelled or were here; ``total``: of the model; ``rate``:
    verified bytes a second since this attempt began; ``remaining``: seconds at that rate, None: not known.

    ``peer``: the node that is asked now; ``here``: bytes of ``done`` that did not travel in this attempt.
    """

    root: Root
    done: int
    total: int
    rate: float
    remaining: float | None
    peer: str = ""
    here: int = 0


class TransferObserver(Protocol):
    """Called from many threads; never raises. ``peer``: a configured name or a caller's, the label of metrics."""

    def moved(self, direction: str, peer: str, encoding: Encoding, wire_bytes: int, block_bytes: int) -> None:
        """One block travelled, ``in`` or ``out``: payload bytes, and what they stand for."""
        ...

    def wasted(self, peer: str, nbytes: int) -> None:
        """Bytes of blocks that did not become whole, or wrong ones."""
        ...

    def progress(self, progress: TransferProgress) -> None: ...

    def left(self, root: Root) -> None:
        """Nothing more is done for this model now: it is here, or given up."""
        ...

    def sending(self, root: Root, peer: str, done: int, total: int, *, over: bool = False) -> None:
        """Bytes of the blocks that a caller asked for, of the model ``root``, which left. ``over``: the call ended."""
        ...

    def active(self, direction: str, change: int) -> None:
        """A transfer began (1) or ended (-1)."""
        ...

    def fetched(self, root: Root, seconds: float) -> None:
        """A model is here, whole."""
        ...

    def postponed(self, root: Root, message: str) -> None:
        """A transfer gave up for now: the disk is full, or nobody can be asked."""
        ...

    def stalled(self, peer: str) -> None:
        """A source was left because nothing that counts came from it for too long."""
        ...

    def resumed(self, root: Root, done: int, total: int) -> None:
        """A transfer goes on from its journal."""
        ...

    def refetched(self, peer: str, blocks: int) -> None:
        """Blocks are asked for again."""
        ...

    def mismatched(self, peer: str) -> None:
        """A block was not what its id says."""
        ...

    def deduplicated(self, nbytes: int) -> None:
        """Bytes of blocks that were copied from what is here."""
        ...

    def refused(self, peer: str, code: str) -> None:
        """A source refused to serve."""
        ...

    def shelf(self, nbytes: int, blocks: int) -> None:
        """What the shelf holds now."""
        ...

    def removed(self, nbytes: int) -> None:
        """Bytes that nobody needs any more."""
        ...

    def damaged(self, root: Root, fault: str) -> None:
        """An entry of the shelf was not what it should be, and is gone."""
        ...


class Unobserved:
    """Nobody listens."""

    def moved(self, direction: str, peer: str, encoding: Encoding, wire_bytes: int, block_bytes: int) -> None:
        pass

    def wasted(self, peer: str, nbytes: int) -> None:
        pass

    def progress(self, progress: TransferProgress) -> None:
        pass

    def left(self, root: Root) -> None:
        pass

    def sending(self, root: Root, peer: str, done: int, total: int, *, over: bool = False) -> None:
        pass

    def active(self, direction: str, change: int) -> None:
        pass

    def fetched(self, root: Root, seconds: float) -> None:
        pass

    def postponed(self, root: Root, message: str) -> None:
        pass

    def stalled(self, peer: str) -> None:
        pass

    def resumed(self, root: Root, done: int, total: int) -> None:
        pass

    def refetched(self, peer: str, blocks: int) -> None:
        pass

    def mismatched(self, peer: str) -> None:
        pass

    def deduplicated(self, nbytes: int) -> None:
        pass

    def refused(self, peer: str, code: str) -> None:
        pass

    def shelf(self, nbytes: int, blocks: int) -> None:
        pass

    def removed(self, nbytes: int) -> None:
        pass

    def damaged(self, root: Root, fault: str) -> None:
        pass
