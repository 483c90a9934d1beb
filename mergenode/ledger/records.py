"""The facts a node records. A fact is a value; the chain over them is in ``chain``, what follows in ``plan``.

Facts are never changed or deleted. Times are UTC, ISO 8601, seconds; they are told by the caller, never read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mergenode.types import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Base of all facts. ``time`` is when the node learnt it."""

    kind: ClassVar[str]
    time: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialised(Fact):
    """The first fact: which base, which method. A state directory never changes either of them."""

    kind: ClassVar[str] = "initialised"
    ledger_id: str
    base: Digest
    method: str
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContributionFact(Fact):
    """A fact about one revision of one entry of one registry."""

    registry: str
    name: str
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovered(ContributionFact):
    """A complete checkpoint was listed for the first time."""

    kind: ClassVar[str] = "discovered"
    location: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected(ContributionFact):
    """Refused until its revision changes or the operator asks again. ``reason`` is a RejectReason value."""

    kind: ClassVar[str] = "rejected"
    reason: str
    message: str
    hint: str = ""
    content: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate(ContributionFact):
    """Its content is already in the merge, folded as ``same_as``; nothing was done."""

    kind: ClassVar[str] = "duplicate"
    content: Digest
    same_as: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded(ContributionFact):
    """The commit point: the statistics of ``generation`` are durable and contain this contribution.

    ``lineage`` chains what determines the published bytes (base, method, options, contents and weights in order) and
    nothing else, so that it is equal on every node that folded the same contributions in the same order.
    """

    kind: ClassVar[str] = "folded"
    generation: int
    location: str
    content: Digest
    contribution_kind: str
    weight: float
    count: int
    totals: Mapping[str, float]
    statistics: Digest
    lineage: Digest
    norm: float
    relative_norm: float
    groups: tuple[Mapping[str, Any], ...] = ()
    seconds: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Published(Fact):
    """Version ``version`` of generation ``generation`` is visible; ``digest`` covers its manifest."""

    kind: ClassVar[str] = "published"
    version: int
    generation: int
    digest: Digest
    path: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned(Fact):
    """Retention removed the files of these versions; the facts about them stay."""

    kind: ClassVar[str] = "pruned"
    versions: tuple[int, ...]


KINDS: Mapping[str, type[Fact]] = {
    fact.kind: fact for fact in (Initialised, Discovered, Rejected, Duplicate, Folded, Published, Pruned)
}
"""Every kind of fact by its name on disk."""
