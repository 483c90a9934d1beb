"""A picture of peers, made by hand."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from mergenode.adapters.peers.membership.snapshot import BanState, PeerRow, PeersSnapshot
from mergenode.adapters.peers.membership.tally import REFUSALS
from mergenode.adapters.peers.membership.topology import Topology
from mergenode.ports.administration import Neighbour
from mergenode.wire.blocks import Root
from mergenode.wire.heads import Head
from mergenode.wire.sightings import KnownPeer, PeerState

OWN, ONE, TWO, FAR = (UUID(int=number) for number in (1, 2, 3, 4))


def head(node_id: UUID, epoch: int) -> Head:
    return Head("words", node_id, 1, epoch, 5, Root(b"r" * 32), b"s" * 32, Root(b"b" * 32))


def row(node_id: UUID, state: PeerState = PeerState.ALIVE, *, direct: bool = True) -> PeerRow:
    peer = KnownPeer(
        node_id=node_id, incarnation=3, state=state, address=f"node-{node_id.int}:50051", direct=direct, dialled=direct,
        seen=1.5, round_trip=0.004 if direct else None, skew=-0.25 if direct else None,
    )  # fmt: skip
    return PeerRow(peer=peer, head=head(node_id, 4), heads_behind=1, refusals={}, reports={}, ban=None)


def snapshot(*rows: PeerRow) -> PeersSnapshot:
    """One neighbour that is well, one that is banned, one that others see; or those given."""
    ban = BanState(TWO, "signature: forged", 1_700_000_900.0)
    banned = replace(row(TWO, PeerState.SUSPECT), ban=ban, refusals={"signature": 3})
    well = replace(row(ONE), reports={"distance": 0.125})
    return PeersSnapshot(
        node_id=OWN, incarnation=2, lineage="words", address="node-1:50051", draining=False,
        topology=Topology(1, (Neighbour("node-2:50051"), Neighbour("node-3:50051", TWO))), own=head(OWN, 6),
        peers=rows or (well, banned, row(FAR, PeerState.DOWN, direct=False)), bans=(ban,), newest=(),
        links={"node-2:50051": "", "node-9:50051": "unavailable: refused"},
        rpcs={("Peer/Hello", "OK"): 2, ("Peer/Exchange", "INVALID_ARGUMENT"): 1},
        refusals={str(code): 3 * (code == "signature") for code in REFUSALS},
    )  # fmt: skip
