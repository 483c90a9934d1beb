"""Who is there: nodes that speak to us, nodes that others see, and how long ago. Pure; the time is an argument.

Only what a node says itself decides on its state. What others say of it are hints: they name ids that are then
listened to, and describe nodes that we do not reach. So nobody can declare a neighbour of ours dead, and no clock but
our own, which never goes back, is believed.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from uuid import UUID

from mergenode.wire.rhythm import Rhythm
from mergenode.wire.sightings import (
    OLDEST_SECONDS,
    Caller,
    Contact,
    Heard,
    Hint,
    KnownPeer,
    PeerState,
    Sighting,
    Standing,
)

MOST_NEIGHBOURS = 64
"""Nodes that speak to us themselves."""
MOST_KNOWN = 1024
MOST_PER_WITNESS = 512
"""Nodes that one neighbour may name: a liar alone cannot fill the table."""
MOST_ADDRESSES = 4
FORGET_SECONDS = 3600.0
"""A neighbour that is not called by us and was silent this long, or a sighting this old, is forgotten."""
TOLD_SECONDS = 300.0
"""What others say of a node is believed this long."""
FROZEN_SECONDS = 10.0
"""A longer time between two ticks is our own absence, and nobody's silence."""


@dataclass(slots=True)
class _Member:
    node_id: UUID
    incarnation: int = 0
    heard: float | None = None
    moved: float | None = None
    absent: float = 0.0
    missed: int = 0
    draining: bool = False
    advertised: str = ""
    dialled: dict[str, float] = field(default_factory=dict)
    calls: dict[str, float] = field(default_factory=dict)
    called: float | None = None
    round_trip: float | None = None
    skew: float | None = None
    capabilities: frozenset[str] = frozenset()
    hint: Hint | None = None
    witnesses: dict[UUID, float] = field(default_factory=dict)
    pinned: bool = False
    gone: bool = False

    def begin(self, incarnation: int) -> None:
        """Another start of the node: nothing that the one before said of itself holds."""
        self.incarnation, self.moved, self.draining, self.advertised = incarnation, None, False, ""
        self.round_trip, self.skew, self.called = None, None, None
        self.dialled.clear()
        self.calls.clear()

    def leave(self) -> None:
        """It does not speak to us any more."""
        self.begin(0)
        self.heard, self.missed, self.capabilities, self.gone = None, 0, frozenset(), False

    def silence(self, now: float, rhythm: Rhythm) -> float:
        assert self.heard is not None
        moved = self.heard if self.moved is None else min(self.moved, self.heard + rhythm.transfer)
        return now - max(self.heard, moved) - self.absent

    def state(self, now: float, rhythm: Rhythm) -> PeerState:
        if self.heard is None:
            if self.hint is None:
                return PeerState.UNKNOWN
            return self.hint.state if now - self.hint.seen < TOLD_SECONDS else PeerState.DOWN
        silence = self.silence(now, rhythm)
        if silence >= rhythm.down:
            return PeerState.DOWN
        if self.missed >= rhythm.missed or silence >= rhythm.suspect:
            return PeerState.SUSPECT
        return PeerState.DRAINING if self.draining else PeerState.ALIVE

    @property
    def address(self) -> str:
        return self.advertised or next(iter(self.dialled), "") or (self.hint.address if self.hint else "")

    def direct(self, now: float, rhythm: Rhythm) -> bool:
        """Whether it speaks to us; not one that is silent because it was taken away."""
        silent = (PeerState.SUSPECT, PeerState.DOWN)
        return self.heard is not None and not (self.gone and self.state(now, rhythm) in silent)

    def seen(self) -> float | None:
        return self.heard if self.heard is not None else self.hint.seen if self.hint else None


class Members:
    """The table of one node. Not thread-safe. Times are seconds of one clock that never goes back.

    Bounded: ``MOST_NEIGHBOURS`` nodes that speak to us, ``MOST_KNOWN`` in all, whatever arrives.
    """

    def __init__(self, own_id: UUID, rhythm: Rhythm | None = None) -> None:
        self.own_id = own_id
        self.rhythm = rhythm or Rhythm()
        self._known: dict[UUID, _Member] = {}
        self._ticked: float | None = None

    def heard(self, contact: Contact, now: float) -> Heard:
        """A node spoke. Any message revives; the newest incarnation wins, an older one is refused."""
        assert contact.node_id != self.own_id, "a node does not meet itself"
        member = self._known.get(contact.node_id)
        if member is None or member.heard is None:
            member = self._welcome(contact, member, now)
            if member is None:
                return Heard(Standing.FULL)
            member.begin(contact.incarnation)
            standing = Standing.NEW
        elif contact.incarnation == member.incarnation:
            standing = Standing.SAME
        elif contact.incarnation < member.incarnation:
            return Heard(Standing.OUTDATED)
        elif not contact.dialled and any(now - at < self.rhythm.down for at in member.dialled.values()):
            return Heard(Standing.UNCONFIRMED)
        else:
            member.begin(contact.incarnation)
            standing = Standing.RESTARTED
        return Heard(standing, self._note(member, contact, now))

    def _welcome(self, contact: Contact, member: _Member | None, now: float) -> _Member | None:
        direct = [other for other in self._known.values() if other.heard is not None]
        if len(direct) >= MOST_NEIGHBOURS:
            # A neighbour that we call was chosen by the operator; a caller waits until another one is gone.
            spare = [
                each
                for each in direct
                if not each.dialled and (contact.dialled or each.state(now, self.rhythm) is PeerState.DOWN)
            ]
            if not spare:
                return None
            self._leave(min(spare, key=lambda each: (each.heard or 0.0, each.node_id)))
        if member is None:
            if len(self._known) >= MOST_KNOWN:
                self._make_room()
            member = self._known[contact.node_id] = _Member(contact.node_id)
        return member

    def _leave(self, member: _Member) -> None:
        member.leave()
        for other in self._known.values():
            other.witnesses.pop(member.node_id, None)

    def _make_room(self) -> None:
        """One of those that are only told of goes; there is one: neighbours and pinned nodes never fill the table."""
        told = (each for each in self._known.values() if each.heard is None and not each.pinned)
        oldest = min(told, key=lambda each: (each.hint.seen if each.hint else 0.0, each.node_id))
        del self._known[oldest.node_id]

    def _note(self, member: _Member, contact: Contact, now: float) -> str:
        rival = ""
        if contact.dialled and contact.dialled not in member.dialled:
            self.hung_up(contact.dialled)  # whoever answered there before
        if contact.advertised == "":
            member.calls.clear()
        for address, times in ((contact.dialled, member.dialled), (contact.advertised, member.calls)):
            if address:
                others = (other for other, at in times.items() if other != address and now - at < self.rhythm.down)
                rival = rival or next(others, "")
                times[address] = now
                while len(times) > MOST_ADDRESSES:
                    del times[min(times, key=times.__getitem__)]
        member.heard, member.absent, member.missed, member.gone = now, 0.0, 0, False
        member.called = member.called if contact.dialled else now
        member.advertised = contact.advertised or member.advertised
        member.capabilities = contact.capabilities or member.capabilities
        member.round_trip = member.round_trip if contact.round_trip is None else contact.round_trip
        member.skew = member.skew if contact.skew is None else contact.skew
        return rival

    def missed(self, node_id: UUID) -> None:
        """A call to this node had no answer."""
        member = self._known.get(node_id)
        if member is not None and member.heard is not None:
            member.missed += 1

    def moved(self, node_id: UUID, now: float) -> None:
        """Weights arrived from this node: life, though for ``Rhythm.transfer`` after its last message at most."""
        member = self._known.get(node_id)
        if member is not None and member.heard is not None and now - member.heard <= self.rhythm.transfer:
            member.moved, member.missed, member.absent = now, 0, 0.0

    def hung_up(self, address: str, *, gone: bool = False) -> None:
        """We do not call this address any more. ``gone``: its name does not stand for it any more.

        A node that was there alone and falls silent was taken away: it is nobody's loss, and still no earlier start of
        it is believed.
        """
        for member in self._known.values():
            if member.dialled.pop(address, None) is not None and not member.dialled:
                member.gone = gone
                if member.called is None:
                    self._leave(member)

    def merge(self, witness: UUID, sightings: Iterable[Sighting], now: float) -> None:
        """What a neighbour sees. Its words on itself count; those on others are hints.

        Idempotent and commutative in one moment, as long as the bounds are not met. From anybody who did not speak to
        us itself nothing is taken.
        """
        if witness not in self._known or self._known[witness].heard is None:
            return
        named = sum(witness in member.witnesses for member in self._known.values())
        for sighting in sightings:
            if sighting.node_id == self.own_id:
                continue
            if sighting.node_id == witness:
                self._of_itself(sighting)
                continue
            member = self._known.get(sighting.node_id)
            fresh = member is None or witness not in member.witnesses
            if fresh and named >= MOST_PER_WITNESS:
                continue
            if member is None:
                if len(self._known) >= MOST_KNOWN:
                    continue
                member = self._known[sighting.node_id] = _Member(sighting.node_id)
            named += fresh
            member.witnesses[witness] = now
            hint = Hint(now - _clamped(sighting.age), sighting.incarnation, sighting.state, sighting.address)
            if member.hint is None or member.hint.order < hint.order:
                member.hint = hint

    def _of_itself(self, sighting: Sighting) -> None:
        member = self._known.get(sighting.node_id)
        if member is not None and member.heard is not None and sighting.incarnation == member.incarnation:
            member.draining = sighting.state is PeerState.DRAINING
            member.advertised = sighting.address or member.advertised

    def pin(self, node_id: UUID) -> bool:
        """Keep listening to a node whose head is here, whoever else forgets it. False: half the table is pinned."""
        member = self._known.get(node_id)
        if member is not None and member.pinned:
            return True
        if sum(each.pinned for each in self._known.values()) >= MOST_KNOWN // 2:
            return False
        if member is None:
            if len(self._known) >= MOST_KNOWN:
                self._make_room()
            member = self._known[node_id] = _Member(node_id)
        member.pinned = True
        return True

    def tick(self, now: float) -> None:
        """To be called every second or so: forgets what is old, and notices when this node itself was frozen."""
        gap = 0.0 if self._ticked is None else now - self._ticked
        if gap > FROZEN_SECONDS:
            for member in self._known.values():
                if member.heard is not None and member.state(self._ticked or now, self.rhythm) is not PeerState.DOWN:
                    member.absent += gap
        self._ticked = now
        for member in list(self._known.values()):
            member.witnesses = {who: at for who, at in member.witnesses.items() if now - at < FORGET_SECONDS}
            if member.heard is not None and not member.dialled and now - member.heard >= FORGET_SECONDS:
                self._leave(member)
            if member.heard is None and not member.witnesses and not member.pinned:
                del self._known[member.node_id]

    def listened(self, banned: Set[UUID] = frozenset()) -> frozenset[UUID]:
        """The ids whose heads are judged at all: who spoke to us, and whom those see; nobody through the banned."""
        return frozenset(
            node_id
            for node_id, member in self._known.items()
            if node_id not in banned
            and (member.heard is not None or member.pinned or any(who not in banned for who in member.witnesses))
        )

    def neighbours(self, now: float) -> Mapping[UUID, bool]:
        """The nodes that we call, and whether each is up."""
        return {each.node_id: each.state(now, self.rhythm).up for each in self._known.values() if each.dialled}

    def answering(self, addresses: Container[str]) -> Mapping[UUID, str]:
        """The nodes that we call at one of these addresses, and which."""
        found = ((each.node_id, address) for each in self._known.values() for address in each.dialled)
        return {node_id: address for node_id, address in found if address in addresses}

    def asks_for(self, node_id: UUID, address: str) -> bool:
        """Whether this node called and asked to be called there."""
        member = self._known.get(node_id)
        return member is not None and address in member.calls

    def callers(self, now: float) -> Iterator[Caller]:
        """Nodes that called us lately and asked to be called."""
        for each in self._known.values():
            if each.called is not None and each.calls and now - each.called < TOLD_SECONDS:
                yield Caller(each.node_id, max(each.calls, key=each.calls.__getitem__), each.called)

    def table(self, now: float) -> tuple[KnownPeer, ...]:
        """Everybody, neighbours first, then by how fresh the news of them is."""
        rows = [self._row(each, now) for each in self._known.values()]
        return tuple(sorted(rows, key=lambda row: (not row.direct, row.seen is None, row.seen, row.node_id)))

    def _row(self, member: _Member, now: float) -> KnownPeer:
        seen, met = member.seen(), member.heard is not None
        return KnownPeer(
            node_id=member.node_id,
            incarnation=member.incarnation if met or not member.hint else member.hint.incarnation,
            state=member.state(now, self.rhythm),
            address=member.address,
            direct=member.direct(now, self.rhythm),
            dialled=bool(member.dialled),
            seen=None if seen is None else max(0.0, now - seen),
            round_trip=member.round_trip,
            skew=member.skew,
            capabilities=member.capabilities,
        )

    def sightings(self, now: float, banned: Set[UUID] = frozenset()) -> list[Sighting]:
        """What we tell others, in the order of ``table``."""
        return [
            Sighting(row.node_id, row.incarnation, row.state, row.address, _clamped(row.seen))
            for row in self.table(now)
            if row.node_id not in banned
        ]


def _clamped(age: float | None) -> float:
    return OLDEST_SECONDS if age is None else min(max(age, 0.0), OLDEST_SECONDS)
