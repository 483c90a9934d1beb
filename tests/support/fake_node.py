"""A node out of fake ports: the real loop, line and recovery over a disk that survives crashes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mergenode.adapters.registries.released import WithReleased
from mergenode.daemon.contribute import Line
from mergenode.daemon.lifecycle import Lifecycle
from mergenode.daemon.loop import Loop
from mergenode.daemon.recover import initialise, recover
from mergenode.ledger.actions import Action, Stop, Wait
from mergenode.ledger.changes import Change
from mergenode.ledger.records import Fact, Folded, Initialised, Published, Rejected
from mergenode.ledger.view import Policy
from mergenode.types import Candidate, Digest, Listing
from tests.support.clock import FakeClock
from tests.support.fake_ports import (
    Checkpoint,
    FakeChanges,
    FakeDisk,
    FakeEngine,
    FakeGatekeeper,
    FakeGenerations,
    FakeLedger,
    FakePublisher,
    FakeRegistry,
    FakeRestater,
    Trouble,
    Witness,
    digest_of,
)
from tests.support.memory_ledger import MemoryLedger


class HandLifecycle(Lifecycle):
    """Waiting moves the clock instead of the world; ``during_wait`` is what happens meanwhile."""

    def __init__(self, clock: FakeClock, drain_seconds: float = 10.0) -> None:
        super().__init__(clock, drain_seconds=drain_seconds)
        self.close()  # nothing real is waited for, and thousands of these are made
        self.hand = clock
        self.waits: list[float] = []
        self.during_wait: Callable[[], object] = lambda: None

    def poke(self) -> None:
        """Nobody sleeps."""

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.hand.advance(seconds)
        self.during_wait()
        return False


def candidate(name: str, revision: str = "r1", registry: str = "inbox", **fields: object) -> Candidate:
    return Candidate(registry, name, revision, f"/{registry}/{name}/{revision}", size_bytes=1, **fields)  # type: ignore[arg-type]  # any field


def origin(**changes: object) -> Initialised:
    fields = {"ledger_id": "l1", "base": digest_of("base"), "method": "opcm", "options": {"alpha": 0.5}}
    return Initialised(time="2026-01-01T00:00:00Z", **(fields | changes))  # type: ignore[arg-type]  # any field


@dataclass
class FakeNode:
    """``start`` begins a process; what it leaves when it dies is disk, ledger, registries and clock."""

    policy: Policy = field(default_factory=Policy)
    keep: int = 3
    once: bool = False
    retractable: bool = True
    snapshots: tuple[int, int] = (0, 0)
    clock: FakeClock = field(default_factory=FakeClock)
    trouble: Trouble = field(default_factory=Trouble)
    disk: FakeDisk = field(default_factory=FakeDisk)

    def __post_init__(self) -> None:
        self.ledger = FakeLedger(self.trouble)
        self.inbox = FakeRegistry(self.trouble)
        self.asks = FakeRegistry(self.trouble, "ingest")
        self.changes = FakeChanges(self.trouble)
        self.gatekeeper = FakeGatekeeper(self.trouble)
        self.jitter: Callable[[], float] = lambda: 0.0

    def line(self) -> Line:
        """The ports of a new process."""
        self.witness = Witness()
        self.lifecycle = HandLifecycle(self.clock)
        self.engine = FakeEngine(self.disk, self.trouble, stop=self.lifecycle.abandon)
        self.restater = FakeRestater(self.disk, self.trouble)
        return Line(
            engine=self.engine,
            ledger=self.ledger,
            generations=FakeGenerations(self.disk, self.trouble, *self.snapshots),
            publisher=FakePublisher(self.disk, self.trouble),
            restater=self.restater,
            retractable=self.retractable,
            observer=self.witness,
            clock=self.clock,
            keep=self.keep,
            gatekeeper=self.gatekeeper,
        )

    def line_publisher(self) -> FakePublisher:
        """A look at the versions that asks no trouble."""
        return FakePublisher(self.disk, Trouble())

    def start(self, **changes: object) -> Loop:
        line = self.line()
        initialise(line, origin(**changes))
        recover(line)
        return Loop(
            line=line,
            registries={"inbox": self.inbox, "ingest": WithReleased(self.asks, self.ledger, self._is_there)},
            changes=self.changes,
            policy=self.policy,
            lifecycle=self.lifecycle,
            jitter=self.jitter,
            once=self.once,
        )

    def put(
        self, name: str, revision: str = "r1", *, checkpoint: Checkpoint | None = None, **fields: object
    ) -> Candidate:
        """A complete entry; another revision takes the place of the first."""
        offered = candidate(name, revision, **fields)
        self.disk.checkpoints[offered.location] = checkpoint or Checkpoint(digest_of(f"{name} {revision}"))
        left = tuple(other for other in self.inbox.listing.candidates if other.name != name)
        self.inbox.listing = Listing((*left, offered), self.inbox.listing.unsettled, self.inbox.listing.refused)
        return offered

    def ask(self, offered: Candidate) -> None:
        """A request of the operator for this candidate."""
        self.asks.requests.append(
            Candidate(offered.registry, offered.name, offered.revision, offered.location, forced=True)
        )

    def retract(self, *names: str, why: str = "") -> Change:
        """A request of the operator to take these out."""
        inside = {fact.name: fact.content for _, fact in self.ledger.members()}
        change = Change(f"c{len(self.changes.asked)}", tuple(inside[name] for name in names), why=why)
        self.changes.asked.append(change)
        return change

    def decide(self, what: str, *contents: Digest, why: str = "") -> Change:
        """A request of the operator to release or drop what is in quarantine."""
        change = Change(f"q{len(self.changes.asked)}", contents, why=why, quarantine=what, who="ops")
        self.changes.asked.append(change)
        return change

    def _is_there(self, location: str) -> bool:
        return location in self.disk.checkpoints

    def roll_back(self, version: int) -> Change:
        change = Change(f"c{len(self.changes.asked)}", rollback_to=version)
        self.changes.asked.append(change)
        return change

    @property
    def members(self) -> list[str]:
        return [fact.name for _, fact in self.ledger.members()]

    def drain(self, loop: Loop, limit: int = 1000) -> Action:
        """Poke the loop, and let it act until it waits for what nobody knows of yet, or stops."""
        loop.act(Wait(0.05, "poked"))
        for _ in range(limit):
            action = loop.decide()
            head = MemoryLedger.head(self.ledger)
            shown = head.generation == head.published_generation
            if isinstance(action, Stop) or (isinstance(action, Wait) and action.why == "nothing is pending" and shown):
                return action
            loop.act(action)
        raise AssertionError("the loop does not come to rest")

    def facts(self, *kinds: str) -> list[Fact]:
        return [fact for _, fact in self.ledger.facts(kinds=kinds)]

    @property
    def folded(self) -> list[str]:
        return [fact.name for fact in self.facts("folded") if isinstance(fact, Folded)]

    @property
    def rejected(self) -> dict[str, str]:
        return {fact.name: fact.reason for fact in self.facts("rejected") if isinstance(fact, Rejected)}

    @property
    def published(self) -> list[tuple[int, int]]:
        """Version and generation of every published fact."""
        return [(fact.version, fact.generation) for fact in self.facts("published") if isinstance(fact, Published)]
