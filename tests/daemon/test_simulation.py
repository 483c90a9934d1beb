"""Random schedules in virtual time: arrivals, replacements, flapping registries, failures and crashes at any step.

Every schedule follows from its seed. After every action the invariants hold; at the end, when the world behaves, what
is listed is in the merge or has its reason.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from mergenode.errors import RejectReason, TransientError, TransientReason
from mergenode.ledger.actions import Stop
from mergenode.ledger.changes import DROP, RELEASE
from mergenode.ledger.records import Folded, Published, Quarantined, Released
from mergenode.ledger.view import Policy
from mergenode.ports.gatekeeper import OBSERVE
from mergenode.types import Digest, Listing, Refused, Unsettled
from tests.support.fake_node import FakeNode
from tests.support.fake_ports import Checkpoint, Crash, digest_of, rejection
from tests.support.memory_ledger import MemoryLedger

SCHEDULES = 600
BATCHES = 12
STEPS = 45
REASONS = tuple(TransientReason)


class Schedule:
    """One random life of a node."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        policy = self.random.choice(
            [
                Policy(),
                Policy(publish_every_contributions=3),
                Policy(publish_every_contributions=9, publish_every_seconds=20),
            ]
        )
        self.node = FakeNode(policy=policy, keep=self.random.randint(1, 4))
        self.node.jitter = self.random.random
        self.node.trouble.any = self.trouble
        self.node.gatekeeper.by_digest = self.random.random() < 0.5
        self.crash_rate = self.random.choice([0.0, 0.01, 0.05])
        self.failure_rate = self.random.choice([0.0, 0.02, 0.15])
        self.crashes = 0
        self.crash_armed = True

    def trouble(self, name: str) -> BaseException | None:
        if name.startswith("list"):
            away = TransientError(TransientReason.REGISTRY_UNREACHABLE, f"{name}: away")
            return away if self.random.random() < self.failure_rate else None
        if self.crash_armed and self.random.random() < self.crash_rate:
            return Crash(name)
        if not name.endswith("done") and name != "read" and self.random.random() < self.failure_rate:
            return TransientError(self.random.choice(REASONS), f"{name} fails")
        return None

    def live(self) -> None:
        """Steps of the world and of the node, with a new process after every crash."""
        loop = None
        for _ in range(STEPS):
            self.world()
            try:
                if loop is None:
                    loop = self.node.start()
                for _ in range(self.random.randint(1, 4)):
                    action = loop.decide()
                    assert not isinstance(action, Stop)
                    loop.act(action)
                    self.check(settled=True)
                assert len(loop.seen.outcomes) <= len(loop.seen.listed_keys())
                assert len(loop.patience) <= len(loop.seen.listed_keys()) + 2
            except (Crash, TransientError):  # a start may also fail for now: the process ends and begins again
                self.crashes += 1
                loop = None
                self.check(settled=False)

    def world(self) -> None:
        """Somebody does something, or time passes."""
        draw = self.random.random()
        name = f"m{self.random.randint(0, 7)}"
        if draw < 0.45:
            self.node.put(name, f"r{self.random.randint(0, 3)}", checkpoint=self.checkpoint(name))
        elif draw < 0.55:
            candidates = self.node.inbox.listing.candidates
            left = tuple(other for other in candidates if other.name != name)
            self.node.inbox.listing = Listing(left, *self.oddities())
        elif draw < 0.65 and self.node.inbox.listing.candidates:
            self.node.ask(self.random.choice(self.node.inbox.listing.candidates))
        elif draw < 0.68:
            self.decide()
        elif draw < 0.72:
            self.node.clock.jump(self.random.uniform(-1e5, 1e5))
        else:
            self.node.clock.advance(self.random.uniform(0, 30))

    def decide(self) -> None:
        """The operator looks at something in quarantine; what is released is judged by nobody any more."""
        held = [fact.content for _, fact in self.node.ledger.quarantine()]
        if held:
            self.node.decide(self.random.choice((RELEASE, DROP)), self.random.choice(held), why="looked at it")

    def oddities(self) -> tuple[tuple[Unsettled, ...], tuple[Refused, ...]]:
        number = self.random.randint(0, 3)
        refused = Refused("inbox", f"odd{number}", "refused:1", "path_unsafe", "leads out")
        unsettled = Unsettled("inbox", "half", "no weights yet", self.random.choice([None, 0.0, 3.0]))
        return ((unsettled,) if number % 2 else (), (refused,) if number > 1 else ())

    def checkpoint(self, name: str) -> Checkpoint:
        draw = self.random.random()
        content = digest_of(f"{name} {self.random.randint(0, 5)}")
        if draw < 0.1:
            return Checkpoint(content, error=rejection(RejectReason.SHAPE_MISMATCH))
        if draw < 0.15:
            return Checkpoint(content, norm=0.0)
        if draw < 0.2:
            return Checkpoint(content, relative=self.random.choice([1.4, 1e5]))
        if draw < 0.25:
            return Checkpoint(content, error=ZeroDivisionError("poison"))
        return Checkpoint(content)

    def check(self, *, settled: bool) -> None:
        """``settled``: an action is over; else the process died in the middle of one."""
        node, disk = self.node, self.node.disk
        folds = [fact for _, fact in node.ledger.facts(kinds=["folded"]) if isinstance(fact, Folded)]
        versions = [fact for _, fact in node.ledger.facts(kinds=["published"]) if isinstance(fact, Published)]
        assert [fact.generation for fact in folds] == list(range(1, len(folds) + 1))
        assert len({fact.content for fact in folds}) == len(folds), "folded twice"
        assert [fact.version for fact in versions] == list(range(1, len(versions) + 1)), "a gap"
        lineages = {fact.generation: fact.lineage for fact in folds}
        publisher = node.line_publisher()
        for version in disk.versions:
            manifest = publisher.visible(version)
            assert manifest is not None and lineages[manifest["generation"]] == manifest["lineage"], "never committed"
            assert version <= len(versions) + 1
        if folds:
            assert disk.generations[len(folds)] == folds[-1].statistics, "the current statistics are gone"
        if disk.latest is not None:
            assert disk.latest in disk.versions, "latest dangles"
            assert disk.latest in (len(versions), len(versions) + 1)
        self.check_quarantine({fact.content: fact for fact in folds})
        if settled and versions:
            assert disk.latest is not None and disk.latest >= len(versions)
            assert len(versions) in disk.versions

    def check_quarantine(self, folds: Mapping[Digest, Folded]) -> None:
        """What a gate held back is in the merge only by the operator's word."""
        node = self.node
        facts = [fact for _, fact in node.ledger.facts(kinds=["quarantined", "released"])]
        released = {fact.content for fact in facts if isinstance(fact, Released)}
        held = {fact.content for fact in facts if isinstance(fact, Quarantined)}
        assert not (held & folds.keys()) - released, "folded out of quarantine"
        for content, fact in folds.items():
            assert all(finding["action"] == OBSERVE for finding in fact.findings)
            assert not (node.gatekeeper.by_digest and int(content[-2:], 16) < 80) or content in released

    def finish(self) -> None:
        """The world behaves from now on: everything comes to its end."""
        self.node.trouble.any = lambda name: None
        for checkpoint in self.node.disk.checkpoints.values():
            checkpoint.error = None if isinstance(checkpoint.error, ZeroDivisionError) else checkpoint.error
        self.node.inbox.listing = Listing(self.node.inbox.listing.candidates)
        self.node.once = True
        stop = self.node.start().run()
        assert stop.complete, stop
        self.check(settled=True)
        node = self.node
        assert node.ledger.verify() == []
        assert node.asks.requests == []
        head = MemoryLedger.head(node.ledger)
        assert head.published_generation == head.generation
        contents = {fact.content for fact in node.facts("folded") if isinstance(fact, Folded)}
        rejected = {(fact.name, fact.revision) for fact in node.facts("rejected")}  # type: ignore[attr-defined]
        outcomes = node.ledger.outcomes([offered.key for offered in node.inbox.listing.candidates])
        for offered in node.inbox.listing.candidates:
            assert outcomes[offered.key].kind in ("folded", "duplicate", "rejected", "quarantined")
            known = node.disk.checkpoints[offered.location].content in contents
            assert known or (offered.name, offered.revision) in rejected or outcomes[offered.key].kind != "discovered"
        assert list(node.disk.generations) == ([head.generation] if head.generation else [])
        assert node.disk.folding is None and node.disk.staging == {}
        assert len(node.disk.versions) <= node.keep
        assert sorted(node.disk.versions) == [fact.version for fact in node.ledger.versions()]


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_schedule_keeps_the_invariants(batch: int) -> None:
    for seed in range(batch * SCHEDULES // BATCHES, (batch + 1) * SCHEDULES // BATCHES):
        schedule = Schedule(seed)
        try:
            schedule.live()
            schedule.finish()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def test_the_schedules_are_eventful() -> None:
    """Otherwise the invariants would hold for want of events."""
    seen: dict[str, int] = {}
    for seed in range(60):
        schedule = Schedule(seed)
        schedule.live()
        seen["crash"] = seen.get("crash", 0) + schedule.crashes
        for kind, count in schedule.node.ledger.counts().items():
            seen[kind] = seen.get(kind, 0) + count
        seen["retry"] = seen.get("retry", 0) + len(schedule.node.witness.retries)
    assert min(seen[kind] for kind in ("crash", "folded", "published", "pruned", "rejected", "duplicate", "retry")) > 20
    assert min(seen[kind] for kind in ("quarantined", "released")) > 5
