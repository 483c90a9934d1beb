"""The port ``Exchange`` over gRPC: heads from those who keep them, weights from the shelf that replication fills."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Protocol
from uuid import UUID

from mergenode.adapters.durable import disk_errors
from mergenode.adapters.peers.weights.arrived_file import load_arrived, store_arrived
from mergenode.adapters.peers.weights.blob_calls import UnusableModel
from mergenode.adapters.peers.weights.fetching import Fetcher
from mergenode.adapters.peers.weights.replication import Replication, Want
from mergenode.adapters.peers.weights.shelf import Shelf
from mergenode.adapters.peers.weights.sources import Source
from mergenode.adapters.peers.weights.transfer_observer import TransferObserver, Unobserved
from mergenode.errors import TransientError
from mergenode.ports.exchange import Arrived, Offer
from mergenode.wire.blocks import Root
from mergenode.wire.heads import Head

_ARRIVED = "arrived"
"""Beside the shelf: its folder name, a hyphen, and this."""


class Heads(Protocol):
    """Signed heads of one lineage, and the nodes that they come from. Safe from several threads."""

    @property
    def node_id(self) -> UUID: ...

    @property
    def incarnation(self) -> int: ...

    def sign(self, offer: Offer, root: Root, schema_hash: bytes) -> Head:
        """This node's next head, for weights that are served already. Durable and on its way to others on return.

        Raises:
            TransientError: the disk is full or failing; there is no new head.
        """
        ...

    def own(self) -> Head | None:
        """The newest head that this node signed, in any life."""
        ...

    def newest(self) -> Mapping[UUID, Head]:
        """The newest admitted head of every other node that is listened to."""
        ...

    def sources(self, head: Head) -> Sequence[Source]:
        """The nodes that may hold this head's weights and can be asked, best first: who signed it, then neighbours."""
        ...

    def neighbours(self) -> Mapping[UUID, bool]:
        """As the port says."""
        ...

    def accuse(self, node_id: UUID, code: str, message: str) -> None:
        """As the port says."""
        ...

    def listen(self, poke: Callable[[], None]) -> None:
        """Call ``poke`` when newest heads, sources or neighbours may have changed."""
        ...


class GrpcExchange:
    """Implements ``Exchange``. ``start`` before the first use, ``stop`` at the end."""

    def __init__(
        self,
        heads: Heads,
        shelf: Shelf,
        fetcher_of: Callable[[Callable[[Source, str, str], None]], Fetcher],
        base_root: Root | None = None,
        pinned: Collection[Root] = (),
        observer: TransferObserver | None = None,
        concurrency: int = 2,
        one_schema: bool = True,
    ) -> None:
        """``fetcher_of``: a fetcher for ``shelf`` that accuses through the given function. ``base_root``: what
        manifests of this node name as their base. ``pinned``: models that always stay, such as the base.
        ``one_schema``: heads name the schema of their weights; False: what they name is agreed on elsewhere, and
        whoever mixes looks at what arrived."""
        self._heads, self._shelf = heads, shelf
        self._base_root, self._pinned, self._one_schema = base_root, frozenset(pinned), one_schema
        self._file = shelf.folder.parent / f"{shelf.folder.name}-{_ARRIVED}"
        self._lock = threading.RLock()
        self._given: set[Root] = set()
        self._offered: deque[Root] = deque(maxlen=2)
        """The newest own models of this life: others hold the one before the last, and get the last as a difference."""
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._arrived = self._present(load_arrived(self._file))
        self._replication = Replication(
            shelf,
            fetcher_of(self._accuse_source),
            self._wants,
            self._came,
            self._refused,
            observer or Unobserved(),
            concurrency,
        )

    def start(self) -> None:
        """Begin to pull weights."""
        self._heads.listen(self._heads_changed)
        self._replication.start()

    def stop(self) -> None:
        """Pull no more; transfers go on in another life."""
        self._replication.stop()

    @property
    def node_id(self) -> UUID:
        return self._heads.node_id

    @property
    def incarnation(self) -> int:
        return self._heads.incarnation

    def offer(self, offer: Offer) -> Head:
        """As the port says. ValueError: a tensor is in two of the files. RejectedError: they are no weights."""
        manifest = self._shelf.put(offer.weights, self._base_root)
        head = self._heads.sign(offer, manifest.root, manifest.schema_hash)
        with self._lock:
            self._offered.append(manifest.root)
        self._retain()
        return head

    def newest(self) -> Mapping[UUID, Head]:
        return dict(self._heads.newest())

    def arrived(self) -> Mapping[UUID, Arrived]:
        newest = self._heads.newest()
        with self._lock:
            self._note_arrivals(newest)
            found = {}
            for node_id, head in self._arrived.items():
                path = self._shelf.whole(head.root)
                if path is not None:
                    found[node_id] = Arrived(head, path)
                    self._given.add(head.root)
            return found

    def release(self, keep: Sequence[Root]) -> None:
        with self._lock:
            self._given = set(keep)
        self._retain()

    def neighbours(self) -> Mapping[UUID, bool]:
        return self._heads.neighbours()

    def accuse(self, node_id: UUID, code: str, message: str) -> None:
        self._heads.accuse(node_id, code, message)

    def listen(self, poke: Callable[[], None]) -> None:
        with self._lock:
            self._listeners = (*self._listeners, poke)

    def holders(self, root: Root) -> list[bytes]:
        """Ids of nodes that may hold a root: for refusals of ``Blobs``."""
        return [node_id.bytes for node_id, head in self._heads.newest().items() if head.root == root]

    def _note_arrivals(self, newest: Mapping[UUID, Head]) -> None:
        """A head counts as arrived once its weights are one file here; the one before it is kept until then.

        With the lock held, which is never held while ``Heads`` is asked: it may poke with a lock of its own held.
        """
        new = self._present(newest)
        if any(self._arrived.get(node_id) != head for node_id, head in new.items()):
            self._arrived |= new
            with suppress(TransientError), disk_errors(self._file):  # after a restart they would arrive once more
                store_arrived(self._file, self._arrived)

    def _present(self, heads: Mapping[UUID, Head]) -> dict[UUID, Head]:
        return {node_id: head for node_id, head in heads.items() if self._shelf.whole(head.root) is not None}

    def _wants(self) -> list[Want]:
        """Newest first, by the rounds that heads are of."""
        newest = sorted(self._heads.newest().values(), key=lambda head: (-head.epoch, head.node_id))
        return [self._want(head) for head in newest]

    def _want(self, head: Head) -> Want:
        """Close to it are probably the node's model before and this node's own; the sender may hold both."""
        with self._lock:
            before = self._arrived.get(head.node_id)
            prefer = [before.root] if before is not None else []
            prefer += reversed(self._offered)
        schema = head.schema_hash if self._one_schema else None
        return Want(head.root, head.node_id, schema, lambda: self._heads.sources(head), prefer)

    def _came(self, root: Root) -> None:
        newest = self._heads.newest()
        with self._lock:
            self._note_arrivals(newest)
        with suppress(TransientError):
            self._retain()
        self._poke()

    def _refused(self, want: Want, error: UnusableModel) -> None:
        self._heads.accuse(want.node_id, error.reason.value, error.message)

    def _accuse_source(self, source: Source, code: str, message: str) -> None:
        if source.node_id is not None:
            self._heads.accuse(source.node_id, code, message)

    def _retain(self) -> None:
        own = self._heads.own()
        with self._lock:
            kept = self._pinned | self._given | set(self._offered) | {head.root for head in self._arrived.values()}
        kept |= {head.root for head in self._heads.newest().values()}
        self._shelf.retain(kept | ({own.root} if own is not None else set()))

    def _heads_changed(self) -> None:
        self._replication.poke()
        self._poke()

    def _poke(self) -> None:
        for listener in self._listeners:
            listener()
