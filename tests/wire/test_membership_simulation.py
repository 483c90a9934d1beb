"""The failure detector in virtual time: partitions, restarts, lost messages, then calm."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from mergenode.wire.membership import Members
from mergenode.wire.rhythm import Rhythm
from mergenode.wire.sightings import Contact, PeerState

RHYTHM = Rhythm()
TICK = 9.0
CALM = RHYTHM.longest() + RHYTHM.exchange + RHYTHM.down
"""A node at the longest pause calls once more within ``longest``; who is dead is silent for ``down``."""


@dataclass
class Node:
    number: int
    neighbours: list[int]
    up: bool = True
    incarnation: int = 1
    members: Members = field(init=False)
    failures: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.begin()

    @property
    def node_id(self) -> UUID:
        return UUID(int=self.number + 1)

    def begin(self) -> None:
        self.members, self.failures = Members(self.node_id, RHYTHM), {}


class World:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        size = self.random.randint(2, 5)
        self.nodes = [Node(number, [other for other in range(size) if other != number]) for number in range(size)]
        self.cut: set[frozenset[int]] = set()
        self.loss = 0.0
        self.now = 0.0
        self.faults = 0
        self._events: list[tuple[float, int, int, int, int]] = []
        self._order, self._ticked = 0, 0.0
        for node in self.nodes:
            self._begin(node)

    def _begin(self, node: Node) -> None:
        node.begin()
        for other in node.neighbours:
            self._later(self.random.random(), node, other)

    def _later(self, pause: float, node: Node, other: int) -> None:
        self._order += 1
        heapq.heappush(self._events, (self.now + pause, self._order, node.number, other, node.incarnation))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, number, other, incarnation = heapq.heappop(self._events)
            while self._ticked + TICK < self.now:
                self._ticked += TICK
                for each in self.nodes:
                    each.members.tick(self._ticked)
            node = self.nodes[number]
            if node.up and node.incarnation == incarnation:
                self._call(node, self.nodes[other])
        self.now = until

    def _passes(self, one: Node, other: Node) -> bool:
        return frozenset((one.number, other.number)) not in self.cut and self.random.random() >= self.loss

    def _call(self, node: Node, other: Node) -> None:
        arrived = other.up and self._passes(node, other)
        if arrived:
            self._hears(other, node, dialled=False)
        if arrived and self._passes(other, node):
            self._hears(node, other, dialled=True)
            node.failures[other.number] = 0
            pause = RHYTHM.pause(0, self.random.random())
        else:
            node.failures[other.number] = node.failures.get(other.number, 0) + 1
            node.members.missed(other.node_id)
            # A call that is refused fails at once, one without an answer takes its deadline off the pause.
            pause = max(RHYTHM.pause(node.failures[other.number], self.random.random()), RHYTHM.exchange)
        self._later(pause, node, other.number)

    def _hears(self, node: Node, speaker: Node, *, dialled: bool) -> None:
        address = f"n{speaker.number}:1" if dialled else ""
        contact = Contact(node_id=speaker.node_id, incarnation=speaker.incarnation, dialled=address)
        if node.members.heard(contact, self.now).standing.accepted:
            node.members.merge(speaker.node_id, speaker.members.sightings(self.now), self.now)

    def misfortune(self) -> None:
        self.faults += 1
        match self.random.choice(["cut", "heal", "loss", "die", "start"]):
            case "cut":
                side = {node.number for node in self.nodes if self.random.random() < 0.5}
                others = {node.number for node in self.nodes} - side
                self.cut |= {frozenset((one, other)) for one in side for other in others}
            case "heal":
                self.cut = set()
            case "loss":
                self.loss = self.random.choice([0.0, 0.3, 0.9])
            case "die":
                self.random.choice(self.nodes).up = False
            case "start":
                node = self.random.choice(self.nodes)
                node.up, node.incarnation = True, node.incarnation + 1
                self._begin(node)

    def calm(self) -> None:
        self.cut, self.loss = set(), 0.0
        self.run(self.now + CALM)


@pytest.mark.parametrize("block", range(4))
def test_after_the_storm_everybody_sees_who_is_up_and_who_is_not(block: int) -> None:
    faults = deaths = 0
    for seed in range(30 * block, 30 * block + 30):
        world = World(seed)
        storm = world.random.choice([120.0, 300.0, 300.0, 1500.0])
        moments = sorted(world.random.uniform(0, storm) for _ in range(world.random.randint(1, 25)))
        for moment in moments:
            world.run(moment)
            world.misfortune()
        world.calm()
        for node in world.nodes:
            node.members.tick(world.now)
            states = {row.node_id: (row.state, row.incarnation) for row in node.members.table(world.now) if row.direct}
            for other in world.nodes if node.up else []:
                if other is node:
                    continue
                state, incarnation = states.get(other.node_id, (PeerState.DOWN, 0))
                assert state is (PeerState.ALIVE if other.up else PeerState.DOWN), (seed, node.number, other.number)
                assert not other.up or incarnation == other.incarnation, (seed, node.number, other.number)
        faults, deaths = faults + world.faults, deaths + sum(not node.up for node in world.nodes)
    assert faults > 200 and deaths > 15, "the storms were no storms"
