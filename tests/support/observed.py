"""A clock that is moved by hand, facts with sensible defaults, and a ledger that is a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mergenode.ledger.records import (
    ContributionFact,
    Duplicate,
    Fact,
    Folded,
    Held,
    Initialised,
    Pruned,
    Published,
    Rejected,
)
from mergenode.ports.ledger_store import Key
from mergenode.types import Digest, Head

BASE = Digest("blake3:" + "b" * 64)
TIME = "2026-01-02T03:04:05Z"
UNIX = 1767323045.0
"""``TIME`` in seconds since the epoch."""


@dataclass
class HandClock:
    seconds: float = 1000.0
    wall: float = UNIX

    def now(self) -> str:
        return TIME

    def unix(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
        self.wall += seconds


def content(number: int) -> Digest:
    return Digest(f"blake3:{number:064x}")


def group(name: str, **values: Any) -> dict[str, Any]:
    report = {
        "group": name,
        "parameters": 10,
        "delta_norm": 2.0,
        "kept_norm": 1.0,
        "merge_norm": 3.0,
        "base_norm": 30.0,
        "cosine": None,
        "share_kept": 0.5,
        "effective_rank": None,
        "capacity_taken": None,
    }
    return {**report, **values}


def folded(number: int = 1, **values: Any) -> Folded:
    defaults: dict[str, Any] = {
        "time": TIME,
        "registry": "inbox",
        "name": f"team-{number}",
        "revision": "r1",
        "generation": number,
        "location": f"/inbox/team-{number}",
        "content": content(number),
        "contribution_kind": "full",
        "weight": 1.0,
        "count": number,
        "totals": {"delta_sq": 4.0},
        "statistics": content(10_000 + number),
        "lineage": content(20_000 + number),
        "norm": 2.0,
        "relative_norm": 0.25,
        "seconds": 2.0,
        "bytes_read": 100,
        "bytes_written": 40,
        "groups": (group("*"), group("layers.0"), group("layers.1")),
    }
    return Folded(**{**defaults, **values})


def rejected(name: str = "broken", **values: Any) -> Rejected:
    defaults: dict[str, Any] = {
        "time": TIME,
        "registry": "inbox",
        "name": name,
        "revision": "r1",
        "reason": "shape_mismatch",
        "message": "tensor w is 2x3, base has 3x2",
        "hint": "push a fine-tune of this base",
    }
    return Rejected(**{**defaults, **values})


def duplicate(name: str = "again", **values: Any) -> Duplicate:
    defaults: dict[str, Any] = {
        "time": TIME,
        "registry": "inbox",
        "name": name,
        "revision": "r1",
        "content": content(1),
        "same_as": "team-1",
    }
    return Duplicate(**{**defaults, **values})


def published(version: int = 1, **values: Any) -> Published:
    defaults: dict[str, Any] = {
        "time": TIME,
        "version": version,
        "generation": version,
        "digest": content(30_000 + version),
        "path": f"/published/v{version:06d}",
        "seconds": 0.3,
        "scale": {"used": 1.0, "own": 1.0, "norm_rule": 0.5, "update_norm": 2.0, "mean_norm": 1.0},
    }
    return Published(**{**defaults, **values})


def initialised() -> Initialised:
    return Initialised(time=TIME, ledger_id="ledger-1", base=BASE, method="opcm", options={"alpha": 0.5})


@dataclass
class ListLedger:
    """The reader protocol over a list: slow and obvious."""

    recorded: list[Fact] = field(default_factory=list)

    def initialised(self) -> Initialised | None:
        return next((fact for fact in self.recorded if isinstance(fact, Initialised)), None)

    def head(self) -> Head:
        folds = [fact for fact in self.recorded if isinstance(fact, Folded)]
        shown = [fact for fact in self.recorded if isinstance(fact, Published)]
        if not folds:
            return Head()
        last = folds[-1]
        return Head(
            generation=last.generation,
            count=last.count,
            totals=last.totals,
            statistics=last.statistics,
            lineage=last.lineage,
            published_generation=shown[-1].generation if shown else 0,
            version=shown[-1].version if shown else 0,
        )

    def outcomes(self, keys: Iterable[Key]) -> Mapping[Key, ContributionFact]:
        wanted = set(keys)
        facts = [fact for fact in self.recorded if isinstance(fact, ContributionFact)]
        named = {(fact.registry, fact.name, fact.revision): fact for fact in facts}
        return {key: fact for key, fact in named.items() if key in wanted}

    def by_content(self, content: Digest) -> Folded | None:
        folds = [fact for fact in self.recorded if isinstance(fact, Folded)]
        return next((fact for fact in folds if fact.content == content), None)

    def quarantine(self, newest: int | None = None, *, kind: str | None = None) -> Sequence[tuple[int, Held]]:
        held: dict[Digest, tuple[int, Held]] = {}
        for number, fact in enumerate(self.recorded, start=1):
            if isinstance(fact, Held):
                held.pop(fact.content, None)
                held[fact.content] = (number, fact)
            elif isinstance(fact, Folded | Rejected) and fact.content is not None:
                held.pop(fact.content, None)
        found = [each for each in held.values() if kind in (None, each[1].kind)]
        return found if newest is None else found[-newest:]

    def quarantine_size(self) -> int:
        return len(self.quarantine(kind="quarantined"))

    def facts(
        self, *, kinds: Sequence[str] = (), name: str | None = None, newest: int | None = None
    ) -> Sequence[tuple[int, Fact]]:
        found = [
            (number, fact)
            for number, fact in enumerate(self.recorded, start=1)
            if (not kinds or fact.kind in kinds) and (name is None or getattr(fact, "name", None) == name)
        ]
        return found if newest is None else found[-newest:]

    def counts(self) -> Mapping[str, int]:
        kinds = [fact.kind for fact in self.recorded]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

    def versions(self) -> Sequence[Published]:
        gone = {version for fact in self.recorded if isinstance(fact, Pruned) for version in fact.versions}
        return [fact for fact in self.recorded if isinstance(fact, Published) and fact.version not in gone]
