"""The mixer ``contributions``, composed: what this node folded goes to its neighbours."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from uuid import UUID

import grpc

from mergenode.adapters.peers.port.channels import open_channel
from mergenode.adapters.peers.pushing.forwarding import Forwarding, ForwardingSide
from mergenode.adapters.peers.pushing.sending import Sending
from mergenode.adapters.store.sqlite_ledger import open_reader
from mergenode.bootstrap.parts import LEDGER
from mergenode.bootstrap.peers import PEERS, Peers
from mergenode.errors import UsageError
from mergenode.methods.contract import Method
from mergenode.settings import Settings

CONTRIBUTIONS = "contributions"
FORWARDED = "forwarded.json"
"""Below ``state/peers``: what every neighbour answered for."""


def refuse_forwarding(method: Method) -> None:
    """Raises UsageError when contributions of this method do not travel whole."""
    if method.needs:
        raise UsageError(
            f"mixer.name is contributions, but method {method.name} needs side-cars, and those are not pushed",
            hint="Take mixer: {name: union}, or another method (docs/which-method.md).",
        )


def neighbour_channel(peers: Peers, address: str) -> grpc.Channel:
    """A channel to a neighbour, with the certificates of this moment; the caller closes it."""
    return open_channel(address, peers.credentials(), peers.membership.name_of(address))


@contextmanager
def forwarding_to_neighbours(peers: Peers) -> Iterator[Forwarding]:
    """Forward until the end of the block. The port is open, so that neighbours can answer in kind."""
    settings: Settings = peers.settings
    membership = peers.membership

    def neighbours() -> Mapping[UUID, str]:
        places = membership.addresses()
        return {node: places[node] for node, up in membership.neighbours().items() if up and node in places}

    sending = Sending(lambda address: neighbour_channel(peers, address), peers.clock, peers.tracer, peers.observer)
    with closing(open_reader(settings.node.state / LEDGER)) as ledger:
        side = ForwardingSide(
            ledger=ledger,
            file=settings.node.state / PEERS / FORWARDED,
            lineage=settings.peers.lineage,
            neighbours=neighbours,
            clock=peers.clock,
            random=random.Random().random,  # noqa: S311 - spreads retries, hides nothing
            tell=peers.observer.message,
        )
        forwarding = Forwarding(side, sending.send, sending.stop)
        membership.listen(forwarding.poke)
        forwarding.start()
        try:
            yield forwarding
        finally:
            forwarding.stop()
