"""An observer of transfers that counts."""

from __future__ import annotations

from collections import Counter

from mergenode.adapters.peers.weights.transfer_observer import TransferProgress
from mergenode.wire.blocks import Root
from mergenode.wire.encoding import Encoding


class TransferNotes:
    """Implements ``TransferObserver``. ``counts`` by what happened, ``blocks`` and ``wire`` by direction, encoding."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.blocks: Counter[tuple[str, Encoding]] = Counter()
        self.wire: Counter[tuple[str, Encoding]] = Counter()
        self.reported: list[TransferProgress] = []
        self.resumes: list[tuple[int, int]] = []
        self.refusals: Counter[str] = Counter()
        self.faults: list[tuple[Root, str]] = []
        self.shelf_size = (0, 0)
        self.sent: list[tuple[int, int, bool]] = []

    def moved(self, direction: str, peer: str, encoding: Encoding, wire_bytes: int, block_bytes: int) -> None:
        self.blocks[direction, encoding] += 1
        self.wire[direction, encoding] += wire_bytes
        self.counts[f"{direction}_bytes"] += block_bytes

    def wasted(self, peer: str, nbytes: int) -> None:
        self.counts["wasted"] += nbytes

    def left(self, root: Root) -> None:
        self.counts["left"] += 1

    def sending(self, root: Root, peer: str, done: int, total: int, *, over: bool = False) -> None:
        self.sent.append((done, total, over))

    def progress(self, progress: TransferProgress) -> None:
        self.reported.append(progress)

    def active(self, direction: str, change: int) -> None:
        self.counts[f"active_{direction}"] += change

    def fetched(self, root: Root, seconds: float) -> None:
        self.counts["fetched"] += 1

    def postponed(self, root: Root, message: str) -> None:
        self.counts["postponed"] += 1

    def stalled(self, peer: str) -> None:
        self.counts["stalled"] += 1

    def resumed(self, root: Root, done: int, total: int) -> None:
        self.resumes.append((done, total))

    def refetched(self, peer: str, blocks: int) -> None:
        self.counts["refetched"] += blocks

    def mismatched(self, peer: str) -> None:
        self.counts["mismatched"] += 1

    def deduplicated(self, nbytes: int) -> None:
        self.counts["deduplicated"] += nbytes

    def refused(self, peer: str, code: str) -> None:
        self.refusals[code] += 1

    def shelf(self, nbytes: int, blocks: int) -> None:
        self.shelf_size = (nbytes, blocks)

    def removed(self, nbytes: int) -> None:
        self.counts["removed"] += nbytes

    def damaged(self, root: Root, fault: str) -> None:
        self.faults.append((root, fault))
