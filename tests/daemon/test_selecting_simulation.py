"""Random schedules in virtual time of a node that chooses: the pool changes, the plug-in, files and disks fail, and the
node is killed at any step. Every schedule follows from its seed.
"""

from __future__ import annotations

import random

import pytest

from mergenode.errors import TransientError, TransientReason
from mergenode.ledger.actions import Stop
from mergenode.ledger.records import Published, Selected
from mergenode.ledger.selection import in_pool, target_of, terms_of
from tests.support.fake_ports import Crash
from tests.support.memory_ledger import MemoryLedger
from tests.support.quadratic_pool import SelectingNode

SCHEDULES, BATCHES, STEPS = 60, 3, 30
NAMES = 6


class Schedule:
    """One random life of a node; ``pools``: what was in the registry whenever a selection was recorded."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.node = SelectingNode(retractable=self.random.random() < 0.5, limit=(None, 2, 4)[seed % 3])
        self.node.jitter = self.random.random
        self.node.trouble.any = self.trouble
        self.crash_rate = self.random.choice([0.0, 0.01, 0.03])
        self.failure_rate = self.random.choice([0.0, 0.02, 0.1])
        self.crashes = 0

    def trouble(self, name: str) -> BaseException | None:
        if name.startswith("list"):
            away = TransientError(TransientReason.REGISTRY_UNREACHABLE, f"{name}: away")
            return away if self.random.random() < self.failure_rate else None
        if self.random.random() < self.crash_rate:
            return Crash(name)
        if not name.endswith("done") and name != "read" and self.random.random() < self.failure_rate:
            reasons = (TransientReason.TASK_FAILED, TransientReason.READ_FAILED, TransientReason.DISK_FULL)
            return TransientError(self.random.choice(reasons), f"{name} fails")
        return None

    def live(self) -> None:
        loop = None
        for _ in range(STEPS):
            self.world()
            try:
                if loop is None:
                    loop = self.node.start()
                for _ in range(self.random.randint(1, 8)):
                    action = loop.decide()
                    assert not isinstance(action, Stop)
                    loop.act(action)
                    self.check()
            except (Crash, TransientError):
                self.crashes += 1
                loop = None
                self.check()

    def world(self) -> None:
        draw, name = self.random.random(), f"m{self.random.randint(0, NAMES)}"
        inside = {fact.name for _, fact in self.node.ledger.members()}
        if draw < 0.35:
            vector = tuple(self.random.choice([-1.5, 0.0, 0.5, 2.0]) for _ in range(3))
            self.node.offer(name, vector if self.random.random() < 0.95 else None, f"r{self.random.randint(0, 9)}")
        elif draw < 0.45:
            self.node.withdraw(name)
        elif draw < 0.55 and name in inside and not self.node.changes.asked:
            self.node.retract(name)
        else:
            self.node.clock.advance(self.random.uniform(0, 60))

    def check(self) -> None:
        """Every version is what a selection asked for, or less by what an operator took out."""
        facts = self.node.ledger.facts()
        members: dict[str, object] = {}
        target: dict[str, object] = {}
        gone: set[str] = set()
        for _, fact in facts:
            if isinstance(fact, Selected):
                target = dict(target_of(fact))
                gone = {content for content in gone if content not in members}
            elif fact.kind == "folded":
                members[fact.content] = terms_of(fact)  # type: ignore[attr-defined]
            elif fact.kind in ("retracted", "deselected"):
                members.pop(fact.content)  # type: ignore[attr-defined]
                gone |= {fact.content} if fact.kind == "retracted" else set()  # type: ignore[attr-defined]
            elif isinstance(fact, Published):
                wanted = {content: terms for content, terms in target.items() if content not in gone}
                assert members in (wanted, target), "published on the way from one selection to the next"

    def finish(self) -> None:
        self.node.trouble.any = lambda name: None
        self.node.once = True
        stop = self.node.start().run()
        assert stop.complete, stop
        self.check()
        node = self.node
        assert node.ledger.verify() == [] and node.asks.requests == []
        head = MemoryLedger.head(node.ledger)
        assert head.published_generation == head.generation
        assert list(node.disk.generations) == ([head.generation] if head.generation else [])
        assert node.disk.folding is None and node.disk.staging == {}
        self.check_limit()

    def check_limit(self) -> None:
        """Who is in the pool beyond the limit has weight."""
        node = self.node
        listed = {found.key: node.world.places[found.location] for found in node.inbox.listing.candidates}
        outcomes = node.ledger.outcomes(list(listed))
        pool = {content for key, content in listed.items() if in_pool(outcomes[key])}
        chosen = [fact for fact in node.facts("selected") if isinstance(fact, Selected)]
        kept = set(target_of(chosen[-1])) if chosen else set()
        assert node.limit is None or len(pool) <= node.limit or pool <= kept

    def best(self) -> float:
        """The loss that a node reaches which meets the same pool for the first time."""
        fresh = SelectingNode()
        fresh.world.vectors = self.node.world.vectors
        outcomes = self.node.ledger.outcomes([found.key for found in self.node.inbox.listing.candidates])
        for found in self.node.inbox.listing.candidates:
            if outcomes[found.key].kind in ("discovered", "folded", "deselected", "duplicate"):
                vector = self.node.world.vectors[self.node.world.places[found.location]]
                fresh.offer(found.name, vector, found.revision)
        fresh.drain(fresh.start())
        return fresh.distance


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_schedule_ends_where_an_undisturbed_node_ends(batch: int) -> None:
    for seed in range(batch * SCHEDULES // BATCHES, (batch + 1) * SCHEDULES // BATCHES):
        schedule = Schedule(seed)
        try:
            schedule.live()
            schedule.finish()
            assert abs(schedule.node.distance - schedule.best()) < 1e-5
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def test_the_schedules_are_eventful() -> None:
    seen: dict[str, int] = {}
    for seed in range(30):
        schedule = Schedule(seed)
        schedule.live()
        seen["crash"] = seen.get("crash", 0) + schedule.crashes
        for kind, count in schedule.node.ledger.counts().items():
            seen[kind] = seen.get(kind, 0) + count
        evicted = [fact for fact in schedule.node.facts("rejected") if fact.reason == "evicted"]  # type: ignore[attr-defined]
        seen["evicted"] = seen.get("evicted", 0) + len(evicted)
    assert min(seen[kind] for kind in ("crash", "selected", "deselected", "folded", "published", "rejected")) > 10
    assert seen["retracted"] > 2 and seen["evicted"] > 10
