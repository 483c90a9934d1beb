"""Which heads come in, and who is to blame for those that do not."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Set
from uuid import UUID

from blake3 import blake3

from mergenode.adapters.peers.membership.bans import Bans
from mergenode.adapters.peers.membership.head_store import HeadStore
from mergenode.adapters.peers.membership.keyed_heads import KeyedHead
from mergenode.adapters.peers.membership.tally import Tally
from mergenode.wire.admission import Admitted, Expectation, HeadFault, Known, Refused

_MOST_JUDGED = 2048
_FOREIGN = (HeadFault.LINEAGE, HeadFault.SCHEMA, HeadFault.BASE, HeadFault.STALE)


class Admitting:
    """Judges heads for one node. Thread-safe; waits for the disk."""

    def __init__(
        self,
        own_id: UUID,
        heads: HeadStore,
        bans: Bans,
        tally: Tally,
        listened: Callable[[], Set[UUID]],
        report: Callable[[str, str], None],
    ) -> None:
        """``listened``: the ids whose heads are judged at all; ``report``: level and words for the log."""
        self._own_id, self._heads, self._bans, self._tally = own_id, heads, bans, tally
        self._listened, self._report = listened, report
        self._lock = threading.Lock()
        self._judged: OrderedDict[bytes, Refused] = OrderedDict()
        self._foreign: OrderedDict[UUID, tuple[Expectation | None, tuple[int, int]]] = OrderedDict()

    def admit(self, keyed: KeyedHead, sender: UUID) -> Admitted | Known | Refused:
        """Judge a head that ``sender`` sent, whoever signed it.

        What is wrong has its author: bytes that nobody signed are the sender's, two heads in one position are the
        signer's. An author that goes on is banned. The same bytes once more are the same offence.

        Durability: see ``HeadStore.admit``. Raises TransientError: the disk.
        """
        seen = blake3(sender.bytes + keyed.packed()).digest()
        with self._lock:
            if seen in self._judged:
                return self._judged[seen]
        verdict = self._heads.admit(keyed, self._listened().__contains__)
        if isinstance(verdict, Refused):
            self._refused(verdict, sender, seen)
        return verdict

    def is_foreign(self, node_id: UUID, position: tuple[int, int]) -> bool:
        """Whether this head was here and is of another model, exchange or time, by what is expected now."""
        with self._lock:
            return self._foreign.get(node_id) == (self._heads.expected, position)

    def _refused(self, verdict: Refused, sender: UUID, seen: bytes) -> None:
        about = verdict.head.node_id if verdict.head is not None else sender
        forged = verdict.fault in (HeadFault.SIGNATURE, HeadFault.MALFORMED)
        author = sender if forged else about if verdict.fault is HeadFault.CONFLICTING else None
        self._tally.refusal(verdict.fault, about if author is None else author)
        if verdict.head is not None and verdict.fault in _FOREIGN:
            with self._lock:
                self._foreign[about] = self._heads.expected, verdict.head.position
                while len(self._foreign) > _MOST_JUDGED:
                    self._foreign.popitem(last=False)
        if author is None:
            return
        with self._lock:
            self._judged[seen] = verdict
            while len(self._judged) > _MOST_JUDGED:
                self._judged.popitem(last=False)
        self._report("warning", f"refused from {sender} as {verdict.fault}: {verdict.message}")
        if author != self._own_id:
            self._bans.offend(author, f"{verdict.fault}: {verdict.message}")
