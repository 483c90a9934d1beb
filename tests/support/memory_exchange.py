"""Nodes of one lineage in one process: a real fake of ``Exchange`` whose messages move when a test says so.

network = MemoryNetwork(tmp_path)
a, b = network.join(), network.join()
network.link(a, b)
a.offer(Offer(weights=[file], epoch=1))     # spreads at once; with MemoryNetwork(automatic=False) by hand:
network.send_heads(a, b)                    # also what ``a`` heard from others, as relays do
network.send_weights(a, b)                  # of everything that ``b`` has newest heads of and ``a`` holds
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.adapters.peers.weights.one_file import write_one_file
from mergenode.errors import TransientError, TransientReason
from mergenode.ports.exchange import Arrived, Offer
from mergenode.wire.blocks import Root
from mergenode.wire.describing import describe
from mergenode.wire.heads import Head
from mergenode.wire.manifest import Manifest


class MemoryNetwork:
    """Where the nodes of a test are. Weights are files below ``folder``, one directory per node."""

    def __init__(self, folder: Path, *, automatic: bool = True, lineage: str = "mergenode") -> None:
        self.folder, self.automatic, self.lineage = folder, automatic, lineage
        self.base = Root(bytes(32))
        self.nodes: dict[UUID, MemoryExchange] = {}
        self._links: dict[frozenset[UUID], bool] = {}

    def join(self, node_id: UUID | None = None) -> MemoryExchange:
        """A new node. Ids are 1, 2, 3, ... unless given."""
        node = MemoryExchange(self, node_id or UUID(int=len(self.nodes) + 1), 1)
        self.nodes[node.node_id] = node
        return node

    def restart(self, node: MemoryExchange) -> MemoryExchange:
        """The node dies and comes back: what was durable is there, the incarnation is the next one."""
        again = MemoryExchange(self, node.node_id, node.incarnation + 1)
        again.heads, again.held, again.own = dict(node.heads), dict(node.held), node.own
        self.nodes[node.node_id] = again
        return again

    def link(self, first: MemoryExchange, second: MemoryExchange, *, up: bool = True) -> None:
        """Make two nodes neighbours, or change whether they reach each other."""
        self._links[frozenset((first.node_id, second.node_id))] = up
        self._spread_if_automatic()
        for node in (first, second):
            self.nodes[node.node_id].poke()

    def link_all(self) -> None:
        """Everybody is everybody's neighbour."""
        nodes = list(self.nodes.values())
        for number, node in enumerate(nodes):
            for other in nodes[:number]:
                self.link(node, other)

    def neighbours_of(self, node_id: UUID) -> dict[UUID, bool]:
        return {
            other: up
            for pair, up in sorted(self._links.items(), key=str)
            if node_id in pair
            for other in pair - {node_id}
        }

    def send_heads(self, source: MemoryExchange, target: MemoryExchange) -> int:
        """One message with every head that ``source`` knows; how many were new. Duplicates are harmless."""
        known = [*source.heads.values(), *([source.own] if source.own else [])]
        return sum(target.hear(head) for head in known)

    def send_weights(self, source: MemoryExchange, target: MemoryExchange) -> int:
        """Everything that ``target`` wants and ``source`` holds; how many models arrived."""
        return sum(target.receive(root, source.held[root]) for root in target.wanted() if root in source.held)

    def spread(self) -> None:
        """Deliver over all links that are up until nothing is new."""
        while any(self._step()):
            pass

    def _step(self) -> list[int]:
        moved = []
        for pair, up in self._links.items():
            first, second = (self.nodes[node_id] for node_id in sorted(pair))
            for source, target in ((first, second), (second, first)) if up else ():
                moved += [self.send_heads(source, target), self.send_weights(source, target)]
        return moved

    def _spread_if_automatic(self) -> None:
        if self.automatic:
            self.spread()


class MemoryExchange:
    """One node. ``accused``: what was said of others, in order."""

    def __init__(self, network: MemoryNetwork, node_id: UUID, incarnation: int) -> None:
        self._network, self._node_id, self._incarnation = network, node_id, incarnation
        self._folder = network.folder / str(node_id)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._seq = 0
        self._listeners: list[Callable[[], None]] = []
        self.heads: dict[UUID, Head] = {}
        self.complete: dict[UUID, Head] = {}
        self.held: dict[Root, Path] = {}
        self.own: Head | None = None
        self.accused: list[tuple[UUID, str, str]] = []
        self.disk_full = False
        """Set it and ``offer`` fails as on a full disk."""

    @property
    def node_id(self) -> UUID:
        return self._node_id

    @property
    def incarnation(self) -> int:
        return self._incarnation

    def offer(self, offer: Offer) -> Head:
        if self.disk_full:
            raise TransientError(TransientReason.DISK_FULL, "weights: no space left", hint="Free some.")
        manifest, path = self._stored(offer.weights)
        self.held[manifest.root] = path
        self._seq += 1
        self.own = Head(
            self._network.lineage, self._node_id, self._incarnation, offer.epoch, self._seq, manifest.root,
            manifest.schema_hash, self._network.base, offer.weight, offer.push_sum, offer.parents, dict(offer.metrics),
        )  # fmt: skip
        if self._network.automatic:
            self._network.spread()
        self.poke()
        return self.own

    def newest(self) -> Mapping[UUID, Head]:
        return dict(self.heads)

    def arrived(self) -> Mapping[UUID, Arrived]:
        return {node_id: Arrived(head, self.held[head.root]) for node_id, head in self._complete().items()}

    def release(self, keep: Sequence[Root]) -> None:
        kept = {*keep, *(head.root for head in self._complete().values()), *self.wanted()}
        kept |= {self.own.root} if self.own else set()
        for root in set(self.held) - kept:
            self.held.pop(root).unlink()

    def neighbours(self) -> Mapping[UUID, bool]:
        return self._network.neighbours_of(self._node_id)

    def accuse(self, node_id: UUID, code: str, message: str) -> None:
        self.accused.append((node_id, code, message))

    def listen(self, poke: Callable[[], None]) -> None:
        self._listeners.append(poke)

    def poke(self) -> None:
        """Tell the listeners."""
        for listener in self._listeners:
            listener()

    def hear(self, head: Head) -> bool:
        """A head arrives; whether it was new."""
        before = self.heads.get(head.node_id)
        if head.node_id == self._node_id or (before is not None and before.position >= head.position):
            return False
        self._complete()  # an older one whose weights are here stays the one that arrived until the new weights are
        self.heads[head.node_id] = head
        self.poke()
        return True

    def wanted(self) -> list[Root]:
        """Roots of newest heads whose weights are not here."""
        return sorted({head.root for head in self.heads.values()} - set(self.held))

    def receive(self, root: Root, file: Path) -> bool:
        """Weights arrive; whether they were new."""
        if root in self.held:
            return False
        path = self._folder / f"{root.hex()}.safetensors"
        path.unlink(missing_ok=True)
        os.link(file, path)
        self.held[root] = path
        self.poke()
        return True

    def _complete(self) -> dict[UUID, Head]:
        self.complete |= {node_id: head for node_id, head in self.heads.items() if head.root in self.held}
        return dict(self.complete)

    def _stored(self, files: Sequence[Path]) -> tuple[Manifest, Path]:
        with ExitStack() as stack:
            opened = [stack.enter_context(open_weights(file)) for file in files]
            places: dict[str, WeightFiles] = {}
            for weights in opened:
                if places.keys() & weights.specs.keys():
                    raise ValueError(f"{weights.path}: a tensor is there twice")
                places |= dict.fromkeys(weights.specs, weights)

            def read_into(name: str, offset: int, buffer: memoryview) -> None:
                places[name].read_into(name, offset, buffer)

            specs = [weights.specs[name] for name, weights in places.items()]
            manifest = describe(specs, read_into)
            path = self._folder / f"{manifest.root.hex()}.safetensors"
            if not path.exists():
                write_one_file(path, manifest, read_into)
        return manifest, path
