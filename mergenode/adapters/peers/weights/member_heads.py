"""The heads that an exchange needs, from what membership knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from mergenode.adapters.peers.membership.membership import Membership
from mergenode.adapters.peers.weights.sources import Source
from mergenode.ports.exchange import Offer
from mergenode.wire.blocks import Root
from mergenode.wire.heads import Head


@dataclass(frozen=True, slots=True)
class MemberHeads:
    """Implements ``Heads``. Lineage, schema and base of what is signed are those that ``membership`` expects."""

    membership: Membership

    @property
    def node_id(self) -> UUID:
        return self.membership.node_id

    @property
    def incarnation(self) -> int:
        return self.membership.incarnation

    def sign(self, offer: Offer, root: Root, schema_hash: bytes) -> Head:
        """As the port says; durable, and told to others, on return."""
        draft = Head(
            lineage=self.membership.lineage,
            node_id=self.node_id,
            incarnation=self.incarnation,
            epoch=offer.epoch,
            seq=0,
            root=root,
            schema_hash=schema_hash,
            base=root,
            weight=offer.weight,
            push_sum=offer.push_sum,
            parents=offer.parents,
            metrics=offer.metrics,
            created=max(0, round(1000 * self.membership.clock()[1])),
        )
        return self.membership.publish(draft)

    def own(self) -> Head | None:
        held = self.membership.heads.held.get(self.node_id)
        return None if held is None else held.head

    def newest(self) -> Mapping[UUID, Head]:
        return self.membership.newest()

    def sources(self, head: Head) -> Sequence[Source]:
        """Who signed it, then those that are up, neighbours first: any of them may hold it."""
        addresses = self.membership.addresses()
        order = sorted(addresses, key=lambda node_id: node_id != head.node_id)
        return [Source(str(each), addresses[each], each) for each in order if each != self.node_id]

    def neighbours(self) -> Mapping[UUID, bool]:
        return self.membership.neighbours()

    def accuse(self, node_id: UUID, code: str, message: str) -> None:
        self.membership.accuse(node_id, code, message)

    def listen(self, poke: Callable[[], None]) -> None:
        self.membership.listen(poke)
