"""Ports without files: what survives a crash lies in ``FakeDisk``, what may fail asks ``Trouble`` first."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3

from mergenode.errors import FatalError, RejectedError, RejectReason, TransientError, TransientReason
from mergenode.ledger.changes import Change
from mergenode.ledger.records import Fact
from mergenode.ledger.restatement import Replay, Subtract
from mergenode.ledger.snapshots import kept_generations
from mergenode.ports.engine import NOTHING_EARLIER, Earlier, Exported, ScaleReport, Stopped
from mergenode.ports.gatekeeper import OBSERVE, QUARANTINE, REJECT, Verdict
from mergenode.ports.observer import Observer, Progress
from mergenode.ports.restater import Restatement
from mergenode.types import Candidate, Digest, FoldResult, GroupReport, Head, Kind, Listing
from tests.support.memory_ledger import MemoryLedger

AS_IS = ScaleReport(used=1.0, own=1.0, norm_rule=0.5, update_norm=2.0, mean_norm=1.0)


class Crash(BaseException):
    """The process dies here: nobody catches it, nothing is cleaned up."""


class Trouble:
    """Asked before (``x``) and after (``x done``) every operation; by default all goes well."""

    def __init__(self) -> None:
        self.plans: dict[str, list[BaseException | None]] = {}
        self.asked: list[str] = []
        self.any: Callable[[str], BaseException | None] = lambda name: None

    def plan(self, name: str, *errors: BaseException | None) -> None:
        """The next operations of this name end like this, one after the other; None: well."""
        self.plans.setdefault(name, []).extend(errors)

    def __call__(self, name: str) -> None:
        self.asked.append(name)
        planned = self.plans.get(name)
        error = planned.pop(0) if planned else self.any(name)
        if error is not None:
            raise error


def disk_full() -> TransientError:
    return TransientError(TransientReason.DISK_FULL, "/state: no space left", hint="free some")


def unreadable() -> TransientError:
    return TransientError(TransientReason.READ_FAILED, "/inbox/x: input/output error")


def digest_of(text: str) -> Digest:
    return Digest(f"blake3:{blake3(text.encode()).hexdigest()}")


@dataclass
class Checkpoint:
    """What lies at a location. ``error`` ends its fold."""

    content: Digest
    error: BaseException | None = None
    norm: float = 1.0
    relative: float = 0.1
    whole: float = 0.1


@dataclass
class FakeDisk:
    """Everything that outlives the process."""

    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    folding: Digest | None = None
    generations: dict[int, Digest] = field(default_factory=dict)
    staging: dict[int, Digest] = field(default_factory=dict)
    versions: dict[int, bytes] = field(default_factory=dict)
    latest: int | None = None
    requests: list[Candidate] = field(default_factory=list)
    scale: ScaleReport = AS_IS
    earlier: list[Earlier] = field(default_factory=list)
    """What every export so far was given."""


@dataclass
class FakeEngine:
    """Statistics are the digest of the digests folded so far."""

    disk: FakeDisk
    trouble: Trouble
    folds: list[str] = field(default_factory=list)
    stop: Callable[[], bool] = lambda: False
    during: Callable[[Candidate], None] = lambda candidate: None

    def fold(self, candidate: Candidate, head: Head, observer: Observer) -> FoldResult:
        self.trouble("fold")
        self.folds.append(candidate.name)
        self.during(candidate)
        observer.progress(Progress("fold", candidate.name, 1, 2, 1, 2))
        if self.stop():
            raise Stopped(f"fold of {candidate.name} put down")
        found = self.disk.checkpoints.get(candidate.location)
        if found is None:
            raise TransientError(TransientReason.VANISHED, f"{candidate.location}: gone")
        if found.error is not None:
            raise found.error
        if head.generation:
            assert self.disk.generations[head.generation] == head.statistics, "the fold began from other statistics"
        statistics = digest_of(f"{head.statistics} {found.content}")
        self.disk.folding = statistics
        self.trouble("fold done")
        return FoldResult(
            content=found.content,
            kind=Kind.FULL,
            statistics=statistics,
            totals={"count": head.count + 1.0},
            norm=found.norm,
            relative_norm=found.relative,
            groups=(GroupReport("*", 10, found.whole, found.whole, 1.0, 1.0, None, 1.0),),
        )

    def export(self, head: Head, staging: str, observer: Observer, earlier: Earlier = NOTHING_EARLIER) -> Exported:
        self.trouble("export")
        self.disk.earlier.append(earlier)
        if self.stop():
            raise Stopped("publish put down")
        assert self.disk.generations[head.generation] == head.statistics, "exported without its statistics"
        assert head.statistics is not None
        self.disk.staging[int(staging)] = head.statistics
        self.trouble("export done")
        return Exported(
            {"w": digest_of(f"weights {head.statistics} version {head.version + 1}")}, 1, 1, self.disk.scale
        )


@dataclass
class FakeRestater:
    """Subtraction leaves a trace in the statistics, a replay does not."""

    disk: FakeDisk
    trouble: Trouble
    ways: list[Subtract | Replay] = field(default_factory=list)

    def is_at_hand(self, candidate: Candidate) -> bool:
        return candidate.location in self.disk.checkpoints

    def restate(self, way: Subtract | Replay, observer: Observer) -> Restatement:
        self.trouble("restate")
        self.ways.append(way)
        candidates = way.removed if isinstance(way, Subtract) else way.folded
        for candidate in candidates:
            if self.disk.checkpoints[candidate.location].content != candidate.content:
                raise RejectedError(RejectReason.DIGEST_MISMATCH, f"{candidate.name} was replaced", hint="--from")
        if isinstance(way, Subtract):
            assert self.disk.generations[way.head.generation] == way.head.statistics
            out = " ".join(sorted(str(candidate.content) for candidate in candidates))
            statistics: Digest | None = digest_of(f"{way.head.statistics} without {out}")
        else:
            assert way.start.generation == 0 or way.start.generation in self.disk.generations
            statistics = way.start.statistics
            for candidate in candidates:
                statistics = digest_of(f"{statistics} {candidate.content}")
        self.disk.folding = statistics or digest_of("nothing")
        self.trouble("restate done")
        return Restatement(self.disk.folding, {})

    def clear(self) -> None:
        self.trouble("clear")


@dataclass
class FakeChanges:
    """Requests that survive a crash."""

    trouble: Trouble
    asked: list[Change] = field(default_factory=list)
    refusals: dict[str, str] = field(default_factory=dict)

    def pending(self) -> Sequence[Change]:
        return tuple(self.asked)

    def done(self, change: Change) -> None:
        self.trouble("changes done")
        self.asked[:] = [other for other in self.asked if other.id != change.id]

    def refused(self, change: Change, message: str, hint: str) -> None:
        self.refusals[change.id] = message
        self.done(change)


@dataclass
class FakeGenerations:
    disk: FakeDisk
    trouble: Trouble
    every: int = 0
    keep: int = 0

    def install(self, generation: int) -> None:
        self.trouble("install")
        assert self.disk.folding is not None and generation not in self.disk.generations
        self.disk.generations[generation], self.disk.folding = self.disk.folding, None
        self.trouble("install done")

    def recover(self, current: int) -> list[str]:
        done = []
        for generation in sorted(self.disk.generations):
            if generation > current:
                self.disk.folding = self.disk.generations.pop(generation)
                done.append(f"generation {generation} goes back")
            elif generation < current and generation not in self.snapshots(current):
                del self.disk.generations[generation]
                done.append(f"generation {generation} removed")
        if current and current not in self.disk.generations:
            raise FatalError(f"generation {current} is missing")
        return done

    def retire(self, current: int) -> None:
        self.trouble("retire")
        kept = self.snapshots(current)
        for generation in [known for known in self.disk.generations if known < current and known not in kept]:
            del self.disk.generations[generation]
        self.trouble("retire done")

    def snapshots(self, current: int) -> tuple[int, ...]:
        return tuple(sorted(kept_generations(self.disk.generations, current, every=self.every, keep=self.keep)))

    def discard(self) -> None:
        self.trouble("discard")
        self.disk.folding = None

    def sizes(self) -> tuple[int, int]:
        return 100 * len(self.disk.generations), 1000


@dataclass
class FakePublisher:
    disk: FakeDisk
    trouble: Trouble

    def stage(self, version: int) -> str:
        self.trouble("stage")
        if version in self.disk.versions:
            raise FatalError(f"version {version} is in the way")
        self.disk.staging.pop(version, None)
        return str(version)

    def visible(self, version: int) -> Mapping[str, Any] | None:
        content = self.disk.versions.get(version)
        return None if content is None else dict(json.loads(content))

    def holds(self, version: int) -> bool:
        return version in self.disk.versions

    def publish(self, version: int, manifest: Mapping[str, Any], content: bytes, card: str) -> None:
        self.trouble("rename")
        assert self.disk.staging.pop(version) == manifest["statistics"], "half a version became visible"
        self.disk.versions[version] = content
        self.trouble("rename done")

    def digest(self, version: int) -> Digest:
        return digest_of(self.disk.versions[version].decode())

    def path(self, version: int) -> str:
        return f"/published/v{version:06d}"

    def point_latest(self, version: int) -> None:
        self.trouble("latest")
        assert version in self.disk.versions, "latest would dangle"
        self.disk.latest = version
        self.trouble("latest done")

    def prune(self, keep: int) -> Sequence[int]:
        self.trouble("prune")
        doomed = [version for version in sorted(self.disk.versions)[:-keep] if version != self.disk.latest]
        for version in doomed:
            del self.disk.versions[version]
            self.trouble("prune done")
        return doomed

    def sizes(self) -> tuple[int, int]:
        return 10 * len(self.disk.versions), 1000


class FakeLedger(MemoryLedger):
    """A ledger whose writes may fail before or after they are durable, and whose reads may fail."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__()
        self.trouble = trouble

    def append(self, *facts: Fact) -> int:
        self.trouble("append")
        last = super().append(*facts)
        self.trouble("append done")
        return last

    def head(self) -> Head:
        self.trouble("read")
        return super().head()


@dataclass
class FakeRegistry:
    """Lists what it is given; ``settled`` drops requests, as the registry of requests does."""

    trouble: Trouble
    name: str = "inbox"
    listing: Listing = field(default_factory=Listing)
    requests: list[Candidate] = field(default_factory=list)
    asked: int = 0

    def list(self) -> Listing:
        self.asked += 1
        self.trouble(f"list {self.name}")
        return Listing((*self.listing.candidates, *self.requests), self.listing.unsettled, self.listing.refused)

    def settled(self, candidate: Candidate) -> None:
        self.trouble("settled")
        self.requests[:] = [asked for asked in self.requests if asked.key != candidate.key]

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class FakeGatekeeper:
    """Says of a content what ``says`` holds for it: action by gate; with ``by_digest`` it makes something up.

    The same content gets the same answer in every life of the process.
    """

    trouble: Trouble
    says: dict[Digest, tuple[Verdict, ...]] = field(default_factory=dict)
    by_digest: bool = False
    judged: list[Digest] = field(default_factory=list)

    def judge(self, candidate: Candidate, head: Head, result: FoldResult) -> tuple[Verdict, ...]:
        self.trouble("judge")
        self.judged.append(result.content)
        if self.by_digest:
            draw = int(result.content[-2:], 16)
            actions = (
                (REJECT,) if draw < 16 else (OBSERVE, QUARANTINE) if draw < 80 else (OBSERVE,) if draw < 99 else ()
            )
            return tuple(verdict(action) for action in actions)
        return self.says.get(result.content, ())


def verdict(action: str = QUARANTINE, gate: str = "norm", **changes: Any) -> Verdict:
    fields = {"reason": "norm_above_median", "message": "9 times the median", "hint": "look", "numbers": {"ratio": 9.0}}
    return Verdict(gate=gate, action=action, **(fields | changes))  # type: ignore[arg-type]  # any field


class Witness:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.messages: list[tuple[str, str]] = []
        self.retries: list[tuple[str, str, float]] = []
        self.failures: list[str] = []
        self.pending: dict[str, int] = {}
        self.measured: list[tuple[int, int, int]] = []
        self.beats = 0

    def fact(self, fact: Fact) -> None:
        self.facts.append(fact)

    def progress(self, progress: Progress) -> None:
        """Not of interest here."""

    def listed(self, registry: str, listing: Listing, pending: int) -> None:
        self.pending[registry] = pending

    def listing_failed(self, registry: str, message: str) -> None:
        self.failures.append(registry)

    def retrying(self, subject: str, reason: str, message: str, delay_seconds: float, hint: str = "") -> None:
        self.retries.append((subject, reason, delay_seconds))

    def heartbeat(self) -> None:
        self.beats += 1

    def sizes(self, *, statistics_bytes: int, published_bytes: int, disk_free_bytes: int) -> None:
        self.measured.append((statistics_bytes, published_bytes, disk_free_bytes))

    def message(self, level: str, text: str, **fields: object) -> None:
        self.messages.append((level, text))


def rejection(reason: RejectReason = RejectReason.NOT_FINITE) -> RejectedError:
    return RejectedError(reason, "model.safetensors: tensor 'w' holds NaN", hint="train again")
