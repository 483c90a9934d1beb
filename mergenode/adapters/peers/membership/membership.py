"""The other nodes: who is there, which heads they have, who is not listened to. One object that all threads ask."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from mergenode.adapters.peers.membership.admitting import Admitting
from mergenode.adapters.peers.membership.bans import Bans
from mergenode.adapters.peers.membership.head_store import HeadStore, Identity
from mergenode.adapters.peers.membership.keyed_heads import KeyedHead
from mergenode.adapters.peers.membership.tally import Tally
from mergenode.adapters.peers.membership.topology import Topology, TopologyFile
from mergenode.ports.clock import Clock
from mergenode.wire.admission import Admitted, Known, Refused
from mergenode.wire.heads import Head
from mergenode.wire.membership import MOST_NEIGHBOURS, Members
from mergenode.wire.rhythm import Rhythm
from mergenode.wire.sightings import Caller, Contact, Heard, KnownPeer, PeerState, Sighting, Standing
from mergenode.wire.v1 import peer_pb2
from mergenode.wire.views import PROTOCOL, Greeting, Position, View, write_view

BANS = "bans.json"
TOPOLOGY = "topology.json"
MOST_REPORTS = 16
_LONGEST_SKEW = 10 * 366 * 86_400.0

Report = Callable[[str, str], None]
"""Takes a level (info, warning, error) and words for the log."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What was known at one moment: everybody; what they told of their own heads; addresses that are called and why
    the last attempt failed; what mixers reported."""

    table: tuple[KnownPeer, ...]
    told: Mapping[UUID, Position]
    links: Mapping[str, str]
    reports: Mapping[UUID, Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where this node is among others. ``neighbours`` as in the settings: host:port, or dns:name:port."""

    lineage: str
    address: str = ""
    """What it tells others to call; empty: it cannot be called."""
    neighbours: Sequence[str] = ()
    capabilities: frozenset[str] = frozenset()
    rhythm: Rhythm = field(default_factory=Rhythm)


class Membership:
    """Everything that is known of other nodes. Thread-safe; nothing here waits for the network.

    ``directory`` (``state/peers``) holds heads, proofs of contradictions, and bans. Raises as ``HeadStore`` does.
    """

    def __init__(
        self, identity: Identity, directory: Path, clock: Clock, place: Place, report: Report | None = None
    ) -> None:
        self._identity, self._clock, self._place = identity, clock, place
        self._report = report or (lambda level, text: None)
        self._lock = threading.RLock()
        self._listeners: list[Callable[[], None]] = []
        self.heads = HeadStore(directory, identity, place.lineage, self._report)
        self.bans = Bans(directory / BANS, clock, self._report, self._poke)
        self.tally = Tally()
        self._admitting = Admitting(identity.node_id, self.heads, self.bans, self.tally, self._listened, self._report)
        self.rhythm = place.rhythm
        self._members = Members(identity.node_id, place.rhythm)
        self.topology_file = TopologyFile(directory / TOPOLOGY, place.neighbours, self._report)
        self._topology = self.topology_file.read()
        self._address = place.address
        self._draining = False
        self._turn = 0
        self._told: dict[UUID, Position] = {}
        self._reports: dict[UUID, dict[str, float]] = {}
        self._links: dict[str, str] = {}
        self._found: Mapping[str, str] = {}
        self._states: Mapping[UUID, PeerState] = {}
        for node_id in self.heads.held:
            if node_id != identity.node_id:
                self._members.pin(node_id)

    @property
    def node_id(self) -> UUID:
        return self._identity.node_id

    @property
    def incarnation(self) -> int:
        return self._identity.incarnation

    def listen(self, poke: Callable[[], None]) -> None:
        """Call ``poke`` whenever an answer may have changed, from any thread; it must neither raise nor wait."""
        with self._lock:
            self._listeners.append(poke)

    def say(self, level: str, text: str) -> None:
        """A line for the log: level is info, warning or error."""
        self._report(level, text)

    def advertise(self, address: str) -> None:
        """Where others reach this node, once the port is known."""
        self._address = address

    # What mixers ask

    def newest(self) -> Mapping[UUID, Head]:
        """The newest head of every other node that is not banned."""
        banned = self.bans.banned()
        held = self.heads.held.values()
        return {each.head.node_id: each.head for each in held if each.head.node_id not in {self.node_id, *banned}}

    def neighbours(self) -> Mapping[UUID, bool]:
        """The nodes that are called, and whether each is up; a banned one is not."""
        banned = self.bans.banned()
        with self._lock:
            up = self._members.neighbours(self._clock.monotonic())
        return {node_id: alive and node_id not in banned for node_id, alive in up.items()}

    def accuse(self, node_id: UUID, code: str, message: str) -> None:
        """What arrived from this node was refused. Reported; who goes on like that is banned, durably."""
        self.tally.refusal(code, node_id)
        self._report("warning", f"{node_id}: {code}: {message}")
        if node_id != self.node_id:
            self.bans.offend(node_id, f"{code}: {message}")

    def publish(self, draft: Head) -> Head:
        """Sign and keep a head of this node; see ``HeadStore.publish``."""
        head = self.heads.publish(draft)
        self._poke()
        return head

    def report(self, node_id: UUID, name: str, value: float) -> None:
        """A number that the mixer has of another node, such as ``distance``; shown until it is replaced."""
        with self._lock:
            known = {row.node_id for row in self._members.table(self._clock.monotonic())}
            self._reports = {each: kept for each, kept in self._reports.items() if each in known}
            values = self._reports.setdefault(node_id, {})
            if name in values or len(values) < MOST_REPORTS:
                values[name] = value

    # What transfers tell and ask

    def moved(self, node_id: UUID) -> None:
        """Verified bytes arrived from this node."""
        with self._lock:
            self._members.moved(node_id, self._clock.monotonic())

    def addresses(self) -> Mapping[UUID, str]:
        """Where nodes can be called that are up as far as anybody knows, neighbours first, without the banned.

        One that answers at an address found under a name is called there, whatever else it says: see ``name_of``.
        """
        banned = self.bans.banned()
        with self._lock:
            table = self._members.table(self._clock.monotonic())
            found = self._members.answering(self._found)
        places = ((row, found.get(row.node_id, row.address)) for row in table)
        return {row.node_id: place for row, place in places if place and row.state.up and row.node_id not in banned}

    def found(self, names: Mapping[str, str]) -> None:
        """The addresses that names of the settings stand for now, each with its name."""
        self._found = dict(names)

    def name_of(self, address: str) -> str:
        """The name that the certificate at this address has to be for; empty: for the host in the address."""
        return self._found.get(address, "")

    # What the service and the calls to neighbours tell and ask

    def greeting(self) -> Greeting:
        """What this node says of itself."""
        protocols, clock = range(PROTOCOL, PROTOCOL + 1), self._clock.unix()
        return Greeting(self.node_id, self.incarnation, protocols, self._place.capabilities, clock, self._address)

    def clock(self) -> tuple[float, float]:
        """Seconds that never go back, and seconds since 1970."""
        return self._clock.monotonic(), self._clock.unix()

    def skew(self, theirs: float, sent: float, round_trip: float) -> float:
        """Seconds that a clock is ahead of ours, from what it said half a round trip after we asked at ``sent``."""
        return max(-_LONGEST_SKEW, min(_LONGEST_SKEW, theirs - (sent + round_trip / 2)))

    def met(self, contact: Contact) -> Heard:
        """A node spoke. Reported where one start of a node has two addresses; poked where it is news."""
        with self._lock:
            heard = self._members.heard(contact, self._clock.monotonic())
            known = heard.rival and self._is_known_twice(contact, heard.rival)
        if heard.standing is Standing.OUTDATED:
            self.tally.refusal("outdated", contact.node_id)
        if heard.rival and not known:
            here = contact.dialled or contact.advertised
            self._report(
                "warning",
                f"{contact.node_id} is at {heard.rival} and at {here}: one node under two names, or a copy of its "
                "state runs as well",
            )
        if heard.standing in (Standing.NEW, Standing.RESTARTED):
            self._poke()
        return heard

    def _is_known_twice(self, contact: Contact, rival: str) -> bool:
        """Found under a name, and called where it asked to be before that: nothing to worry about."""
        pair = ((contact.dialled, rival), (rival, contact.dialled))
        return any(one in self._found and self._members.asks_for(contact.node_id, other) for one, other in pair)

    def received(self, view: View) -> None:
        """What a neighbour sees; it was met before."""
        rivals = [each for each in view.sightings if each.node_id == self.node_id]
        if any(each.incarnation > self.incarnation for each in rivals):
            self._report("error", f"{view.node_id} sees a later start of this very node: its state was copied")
        with self._lock:
            self._members.merge(view.node_id, view.sightings, self._clock.monotonic())
            for position in view.newest:
                if position.node_id == view.node_id and position.lineage == self._place.lineage:
                    self._told[position.node_id] = position

    def missed(self, node_id: UUID) -> None:
        """A call had no answer."""
        with self._lock:
            self._members.missed(node_id)

    def attempted(self, address: str, error: str) -> None:
        """How the last attempt to call an address ended, in words; empty: well."""
        with self._lock:
            news = self._links.get(address) != error
            if address in self._links or len(self._links) < 2 * MOST_NEIGHBOURS:
                self._links[address] = error
        if news:
            self._poke()

    def hung_up(self, address: str, *, gone: bool = False) -> None:
        """This address is not called any more; ``gone``: because its name does not stand for it any more."""
        with self._lock:
            self._links.pop(address, None)
            self._members.hung_up(address, gone=gone)
        self._poke()

    def callers(self) -> list[Caller]:
        """Nodes that called lately and are not banned."""
        banned = self.bans.banned()
        with self._lock:
            callers = list(self._members.callers(self._clock.monotonic()))
        return [each for each in callers if each.node_id not in banned]

    def view(self) -> peer_pb2.View:
        """What this node sees, first itself."""
        with self._lock:
            self._turn += 1
            turn = self._turn
        state = PeerState.DRAINING if self._draining else PeerState.ALIVE
        own = Sighting(self.node_id, self.incarnation, state, self._address, 0.0)
        sightings = (own, *self.sightings())
        return write_view(View(self.node_id, self.incarnation, sightings, self.positions(), self._clock.unix()), turn)

    def sightings(self) -> list[Sighting]:
        """Everybody else who is known and not banned, neighbours first."""
        banned = frozenset(self.bans.banned())
        with self._lock:
            return self._members.sightings(self._clock.monotonic(), banned)

    def positions(self) -> tuple[Position, ...]:
        """The newest head of everybody who is not banned, this node included."""
        banned, lineage = self.bans.banned(), self._place.lineage
        heads = (each.head for each in self.heads.held.values())
        return tuple(
            Position(lineage, head.node_id, head.incarnation, head.seq, head.epoch)
            for head in heads
            if head.node_id not in banned
        )

    def wanted(self, newest: Iterable[Position]) -> list[UUID]:
        """Of what a neighbour has, the nodes whose heads are newer than here and would be admitted; ascending."""
        expected = self.heads.expected
        if expected is None:
            return []
        held, listened = self.heads.held, self._listened()
        found = set()
        for each in newest:
            known, position = held.get(each.node_id), (each.incarnation, each.seq)
            newer = known is None or known.head.position < position
            ours = each.lineage == expected.lineage and not self._admitting.is_foreign(each.node_id, position)
            if newer and ours and each.node_id in listened and each.epoch >= expected.min_epoch:
                found.add(each.node_id)
        return sorted(found, key=lambda node_id: node_id.bytes)

    def admit(self, keyed: KeyedHead, sender: UUID) -> Admitted | Known | Refused:
        """Judge a head that a neighbour sent; see ``Admitting.admit``."""
        verdict = self._admitting.admit(keyed, sender)
        if isinstance(verdict, Admitted):
            with self._lock:
                self._members.pin(verdict.head.node_id)
            self._poke()
        return verdict

    def _listened(self) -> frozenset[UUID]:
        banned = frozenset(self.bans.banned())
        with self._lock:
            return self._members.listened(banned)

    def tick(self) -> None:
        """Time passes; to be called every second or so. Pokes where somebody's state changed."""
        now = self._clock.monotonic()
        with self._lock:
            self._members.tick(now)
            table = self._members.table(now)
            states = {row.node_id: row.state for row in table}
            changed = states != self._states
            before, self._states = self._states, states
            self._told = {node_id: told for node_id, told in self._told.items() if node_id in states}
        for row in table:
            was = before.get(row.node_id, row.state)
            if row.direct and was is not row.state:
                level = "info" if row.state is PeerState.ALIVE else "warning"
                self._report(level, f"{row.node_id} at {row.address or 'no address'} is {row.state}, it was {was}")
        if changed:
            self._poke()

    @property
    def topology(self) -> Topology:
        return self._topology

    def replace_topology(self, topology: Topology) -> None:
        """Call others from now on. Whoever asks for it made it durable before."""
        self._topology = topology
        addresses = ", ".join(each.address for each in topology.neighbours)
        self._report("info", f"topology {topology.generation}: {addresses or 'nobody'}")
        self._poke()

    @property
    def draining(self) -> bool:
        return self._draining

    def drain(self) -> None:
        """Tell others that this node takes nothing new; it goes on speaking to them."""
        self._draining = True
        self._poke()

    def picture(self) -> Picture:
        """The parts of a snapshot that belong together."""
        with self._lock:
            table = self._members.table(self._clock.monotonic())
            reports = {node_id: dict(values) for node_id, values in self._reports.items()}
            return Picture(table, dict(self._told), dict(self._links), reports)

    @property
    def lineage(self) -> str:
        return self._place.lineage

    @property
    def address(self) -> str:
        """What this node tells others to call."""
        return self._address

    def _poke(self) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for poke in listeners:
            poke()
