"""Random lives of five nodes in virtual time, over a network that loses, repeats, delays and reorders.

Everything follows from the seed. Only what is on a node's disk outlives a crash of it. ``live`` is the turmoil,
``heal`` ends it: all lines work, nobody dies, and everything comes to rest.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from mergenode.errors import RejectedError
from mergenode.ledger.chain import model_digest
from mergenode.ledger.changes import Change
from mergenode.ledger.records import Deferred, Folded, Ruled
from mergenode.ledger.union_plan import PATIENCE_SECONDS
from mergenode.ledger.view import Policy
from mergenode.types import Digest
from mergenode.wire.heads import Head as WireHead
from tests.support.clock import FakeClock
from tests.support.fake_ports import Crash
from tests.support.union_node import CONTENTS, VECTORS, ZERO, UnionNode, Vector, digest_of, plus

NODES = 5
STEPS = 14
_POLICIES = (Policy(), Policy(publish_every_contributions=3, publish_every_seconds=20.0))


@dataclass(order=True)
class Message:
    """On its way: ``due`` in virtual seconds."""

    due: float
    number: int
    source: int = field(compare=False)
    target: int = field(compare=False)
    head: WireHead = field(compare=False)
    text: bytes = field(compare=False)


class World:
    """One schedule. ``faults``: what happened, counted. ``lossy``: files of contributions may get lost as well."""

    def __init__(self, seed: int, *, lossy_files: bool = False) -> None:
        self.random = random.Random(seed)
        self.lossy_files = lossy_files
        self.clock = FakeClock()
        self.values: dict[Digest, Vector] = {}
        self.faults: Counter[str] = Counter()
        self.crash_rate = self.random.choice([0.0, 0.005, 0.03])
        self.loss, self.repeat = self.random.choice([(0.0, 0.0), (0.2, 0.1), (0.6, 0.3)])
        self.armed = True
        self.queue: list[Message] = []
        self.sides: list[int] = [0] * NODES
        policy = self.random.choice(_POLICIES)
        retractable = self.random.random() < 0.7
        ids = sorted(self.random.getrandbits(128) for _ in range(NODES))
        self.nodes = [
            UnionNode(UUID(int=identity), self.clock, self.values, policy=policy, retractable=retractable)
            for identity in ids
        ]
        for number, node in enumerate(self.nodes):
            node.durable = self._durable
            node.sent = lambda head, text, source=number: self._spread(source, head, text)
        self.up: list[bool] = [False] * NODES
        self.refused = self.sent = 0
        self.alive = list(range(NODES))
        self.log: list[Message] = []

    # ---- the turmoil

    def live(self) -> None:
        for _ in range(STEPS):
            self._happen()
            self.clock.advance(self.random.uniform(0, 8))
            self._deliver()
            for number in range(NODES):
                if self.random.random() < 0.6:
                    most = self.random.randint(1, 8)
                    self._during(number, lambda node, most=most: node.settle(most))
            if self.random.random() < 0.3:
                self._gossip(self.random.randrange(NODES))

    def _happen(self) -> None:
        draw, number = self.random.random(), self.random.randrange(NODES)
        content = self.random.choice(CONTENTS[:8])
        weight = self.random.randint(1, 3)
        if draw < 0.5:
            self.faults["offered"] += 1
            self._during(number, lambda node: node.put(content, weight))
        elif draw < 0.65:
            self.faults["retraction asked"] += 1
            self._during(number, lambda node: self._retract(node, content))
        elif draw < 0.75:
            self.faults["asked for again"] += 1
            self._during(number, lambda node: node.put(content, weight, forced=True))
        elif draw < 0.85:
            self.sides = [self.random.randrange(2) for _ in range(NODES)]
            self.faults["partition"] += len(set(self.sides)) > 1
        elif draw < 0.92:
            self.sides = [0] * NODES
        elif draw < 0.96:
            self.up[number] = False
            self.faults["restart"] += 1
        elif self.lossy_files and self.nodes[number].disk.files:
            del self.nodes[number].disk.files[self.random.choice(sorted(self.nodes[number].disk.files))]
            self.faults["file lost"] += 1

    def _retract(self, node: UnionNode, content: Digest) -> None:
        try:
            node.mixing.change(Change("1", (content,), why="asked"))
        except RejectedError:  # its files are gone, and the operator is told
            assert self.lossy_files
            self.faults["retraction refused"] += 1

    def _during(self, number: int, work: Callable[[UnionNode], object]) -> None:
        """Have the node, started if it is down, do this; a crash ends its process."""
        node = self.nodes[number]
        try:
            if not self.up[number]:
                node.start()
                self.up[number] = True
            work(node)
        except Crash:
            self.faults["crash"] += 1
            self.up[number] = False

    def _durable(self, what: str) -> None:
        if self.armed and self.random.random() < self.crash_rate:
            raise Crash(what)

    # ---- the network

    def _spread(self, source: int, head: WireHead, text: bytes) -> None:
        for target in range(NODES):
            if target != source:
                self._send(source, target, head, text)

    def _gossip(self, source: int) -> None:
        """A node tells another one everything that it has, of itself and of others."""
        shelf = self.nodes[source].disk.shelf
        target = self.random.choice([number for number in range(NODES) if number != source])
        own = [shelf.offered] if shelf.offered is not None else []
        for head, text in [*own, *shelf.newest.values()]:
            self._send(source, target, head, text)

    def _send(self, source: int, target: int, head: WireHead, text: bytes) -> None:
        if head.node_id == self.nodes[target].node_id:
            return
        if self.armed and self.random.random() < self.loss:
            self.faults["lost"] += 1
            return
        copies = 2 if self.armed and self.random.random() < self.repeat else 1
        self.faults["repeated"] += copies - 1
        for _ in range(copies):
            delay = self.random.expovariate(1 / 6) if self.armed else 0.0
            self.sent += 1
            heapq.heappush(self.queue, Message(self.clock.monotonic() + delay, self.sent, source, target, head, text))

    def _deliver(self) -> None:
        while self.queue and self.queue[0].due <= self.clock.monotonic():
            message = heapq.heappop(self.queue)
            if self.sides[message.source] != self.sides[message.target]:
                self.faults["cut off"] += 1
                continue
            self.log.append(message)
            self.faults["out of order"] += self.nodes[message.target].disk.shelf.deliver(message.head, message.text)

    def _tell_all(self, source: int) -> int:
        """What a node has of itself and of others, to all whose news it is; how many messages that took."""
        shelf, before = self.nodes[source].disk.shelf, self.sent
        own = [shelf.offered] if shelf.offered is not None else []
        for head, text in [*own, *shelf.newest.values()]:
            for target in self.alive:
                there = self.nodes[target].disk.shelf
                newest, last = (table.get(head.node_id) for table in (there.newest, there.here))
                old = newest is not None and head.position < newest[0].position
                if target != source and not old and (last is None or last[0].position != head.position):
                    self._send(source, target, head, text)
        self._deliver()
        return self.sent - before

    # ---- rest

    def heal(self, dead: int | None = None) -> None:
        """``dead``: this node never comes back, and an operator tells another one so."""
        self.armed, self.sides = False, [0] * NODES
        self.clock.advance(1000.0)
        self._deliver()
        if dead is not None:
            self.alive.remove(dead)
            gone, change = self.nodes[dead].node_id, Change("2", forget=self.nodes[dead].name)
            shelves = {number: self.nodes[number].disk.shelf.newest for number in self.alive}
            heads = {number: newest[gone][0] for number, newest in shelves.items() if gone in newest}
            if heads:
                last = max(heads, key=lambda number: heads[number].position)
                self._during(last, lambda node: node.mixing.change(change))
        self._rest()
        # Once more what is long outdated: it must change nothing.
        for message in self.random.sample(self.log, min(40, len(self.log))):
            if message.target in self.alive:
                self.nodes[message.target].disk.shelf.deliver(message.head, message.text)
        for number in self.alive:
            self.faults["stirred up"] += self._settled(number)
        self._count()

    def _rest(self) -> None:
        for _ in range(60):
            told = sum([self._tell_all(source) for source in self.alive])
            if told + sum([self._settled(number) for number in self.alive]) == 0:
                return
            self.clock.advance(PATIENCE_SECONDS + 1)
        raise AssertionError("the nodes do not come to rest")

    def _settled(self, number: int) -> int:
        steps: list[int] = []
        self._during(number, lambda node: steps.append(node.settle()))
        return steps[0]

    def _count(self) -> None:
        for node in self.nodes:
            for kind, count in node.disk.own.counts().items():
                self.faults[kind] += count
            self.refused += len(node.disk.shelf.accused)

    def check(self) -> None:
        """All agree, and on what one node would have that folded everything."""
        nodes = [self.nodes[number] for number in self.alive]
        first = nodes[0]
        inside: Counter[Digest] = Counter()
        expected = ZERO
        for content, fact in first.mixing.shown.members.items():
            expected = plus(expected, VECTORS[content], int(fact.weight))
        for node in nodes:
            inside.update(member.content for _, member in node.disk.own.members())
        shown = {node.name: dict(node.mixing.shown.members) for node in nodes}
        assert len({frozenset((c, f.origin, f.weight) for c, f in held.items()) for held in shown.values()}) == 1
        assert {node.value for node in nodes} == {expected}, "not the sum of what is in it"
        head = first.disk.united.head()
        for node in nodes:
            there = node.disk.united.head()
            assert there.lineage == head.lineage and there.published_generation == there.generation
            if there.generation:
                assert node.published["model"] == digest_model(expected)
                assert node.published["lineage"] == head.lineage
        self._check_members(set(first.mixing.shown.members), inside)

    def _check_members(self, inside: set[Digest], held: Counter[Digest]) -> None:
        rulings: dict[Digest, int] = {}
        accepted: set[Digest] = set()
        known: set[Digest] = set()
        for node in (self.nodes[number] for number in self.alive):
            for _, fact in node.disk.own.recorded:
                if isinstance(fact, Ruled):
                    rulings[fact.content] = max(fact.number, rulings.get(fact.content, 0))
                elif isinstance(fact, Folded | Deferred):
                    accepted.add(fact.content)
            known |= {member.content for _, member in node.disk.own.members()} | node.mixing.part.standby.keys()
        out = {content for content, number in rulings.items() if number % 2}
        assert not inside & out, "retracted, and in the union"
        if not self.lossy_files:
            # What a survivor once took out does not come back by itself, when the node that took it in again is gone.
            wanted = accepted if len(self.alive) == NODES else known
            assert inside == wanted - out, "something is missing, or too much"
            assert all(count == 1 for count in held.values()), "two nodes hold one content"
        assert self.refused == self.faults["stirred up"] == 0


def digest_model(value: Vector) -> Digest:
    """What a manifest says of a union that adds up to this."""
    return model_digest({"w": digest_of(f"{value}")})
