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
    """Refused until its revision changes or the operator asks again. ``reason`` is a RejectReason value.

    ``findings``: of the gates, where one of them refused it; see ``Quarantined``.
    """

    kind: ClassVar[str] = "rejected"
    reason: str
    message: str
    hint: str = ""
    content: Digest | None = None
    findings: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined(ContributionFact):
    """Read completely, and held back until the operator releases or drops its content.

    ``gate``: the one that holds it back, with its ``reason`` code, ``message``, ``hint`` and ``numbers``. ``findings``:
    what all gates found, each gate, action, reason, message, hint, numbers. The rest is what its fold will need.
    """

    kind: ClassVar[str] = "quarantined"
    content: Digest
    gate: str
    reason: str
    message: str
    hint: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[Mapping[str, Any], ...] = ()
    location: str = ""
    weight: float = 1.0
    profile: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Released(ContributionFact):
    """May be folded, whatever gates find. ``who`` let it go and ``why``; the rest is what its fold needs."""

    kind: ClassVar[str] = "released"
    content: Digest
    who: str = ""
    why: str = ""
    location: str = ""
    weight: float = 1.0
    profile: Mapping[str, float] = field(default_factory=dict)


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
    profile: Mapping[str, float] = field(default_factory=dict)
    """Factors of ``weight`` by tensor name pattern."""
    weighing: Mapping[str, Any] = field(default_factory=dict)
    """How ``weight`` was found, where scores decided; see ``ports.weighing``. Empty: it was given."""
    protection: Mapping[str, Any] = field(default_factory=dict)
    """What protected capabilities held back; see ``FoldResult``."""
    findings: tuple[Mapping[str, Any], ...] = ()
    """Of gates that let it pass and said something, as in ``Quarantined``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published(Fact):
    """Version ``version`` of generation ``generation`` is visible; ``digest`` covers its manifest."""

    kind: ClassVar[str] = "published"
    version: int
    generation: int
    digest: Digest
    path: str
    seconds: float = 0.0
    scale: Mapping[str, Any] = field(default_factory=dict)
    """The scale entry of its manifest; empty in facts from before there was one."""
    round: int | None = None
    """The number of the round whose model it is; None: it is that of the running merge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored(Fact):
    """What the task plug-in thinks of a version: ``scores`` by task, more is better."""

    kind: ClassVar[str] = "scored"
    version: int
    generation: int
    scores: Mapping[str, float]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned(Fact):
    """Retention removed the files of these versions; the facts about them stay."""

    kind: ClassVar[str] = "pruned"
    versions: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Left(ContributionFact):
    """Taken out of the merge. Followed by ``restated`` in the same append."""

    content: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Retracted(Left):
    """Taken out, and not taken in again unless the operator asks. ``why``: what the operator said."""

    kind: ClassVar[str] = "retracted"
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Yielded(Left):
    """Taken out because node ``keeper`` counts the same content; folded again when nobody does. See ``union``."""

    kind: ClassVar[str] = "yielded"
    keeper: str
    location: str
    weight: float
    profile: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deselected(Left):
    """Taken out because the newest selection gives it another weight than ``weight``, or none. It stays in the pool."""

    kind: ClassVar[str] = "deselected"
    weight: float
    profile: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected(Fact):
    """What the selector chose of the pool. ``deselected``, ``restated`` and ``folded`` bring the merge to it.

    ``objective``: digest of plug-in and settings; ``pool``: of the contents that could be chosen, ``size`` of them.
    ``gaps``, ``losses``: at every model that was looked at, the start first; ``loss``, ``gap``: at the chosen one.
    ``rounds``: steps that were taken, ``stopped``: why no more (``gap``, ``rounds``, ``no_descent``); ``position``: of
    the schedule of steps. ``weights``: layer group (``*``: the whole model) -> content -> share of the model; the base
    has the rest. ``target``: what is to be in the merge, in this order: content, registry, name, revision, weight,
    profile. ``contents``: the chosen ones and the best of the others: content, registry, name, score, share, norm, why.
    ``counts``: of the whole pool, by why. ``others``: the ends of the digests that are not in ``contents``, so that who
    was in the pool can be told of everybody; see ``considered``.
    """

    kind: ClassVar[str] = "selected"
    objective: str
    pool: Digest
    size: int
    rounds: int
    stopped: str
    loss: float
    gap: float
    losses: tuple[float, ...] = ()
    gaps: tuple[float, ...] = ()
    weights: Mapping[str, Any] = field(default_factory=dict)
    target: tuple[Mapping[str, Any], ...] = ()
    contents: tuple[Mapping[str, Any], ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    position: int = 0
    seconds: float = 0.0
    others: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred(ContributionFact):
    """Not folded, because node ``keeper`` counts the same content; folded when nobody does. See ``union``."""

    kind: ClassVar[str] = "deferred"
    content: Digest
    keeper: str
    location: str
    weight: float
    profile: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted(ContributionFact):
    """In the merge because the ledger ``origin`` had folded it. Followed by ``restated`` in the same append."""

    kind: ClassVar[str] = "admitted"
    origin: str
    location: str
    content: Digest
    contribution_kind: str
    weight: float
    norm: float
    relative_norm: float
    profile: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restated(Fact):
    """The commit point of what changes the merge without folding: ``generation`` is durable and holds what is left.

    ``how``: ``subtracted``, ``replayed`` or ``combined``. ``start``: the generation from whose snapshot a replay began,
    0 when it began from nothing. ``rollback_to``: the
    version that the operator went back to. ``lineage`` of a replay is that of a node that folded nothing else, see
    ``chain``; None when nothing is left.
    """

    kind: ClassVar[str] = "restated"
    generation: int
    count: int
    totals: Mapping[str, float]
    statistics: Digest
    lineage: Digest | None
    how: str
    start: int | None = None
    rollback_to: int | None = None
    seconds: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class United(Restated):
    """The commit point of a union: ``generation`` is durable and is the sum of these parts, in this order.

    ``parts``: node, statistics, lineage and count of each.
    """

    kind: ClassVar[str] = "united"
    parts: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard(ContributionFact):
    """The part of another node is here, checked. ``name`` is the node's id, ``revision`` the root of its weights.

    ``incarnation`` and ``seq``: of its head. ``generation``, ``statistics``, ``lineage`` and ``count``: of its merge.
    """

    kind: ClassVar[str] = "heard"
    incarnation: int
    seq: int
    generation: int
    count: int
    statistics: Digest | None
    lineage: Digest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruled(Fact):
    """Whether a content may be in the union: the ruling with the highest number counts, odd ones say no.

    ``node``: whose operator ruled, ``said``: when, ``why``: what he said. ``time`` is when this node learnt it.
    """

    kind: ClassVar[str] = "ruled"
    content: Digest
    number: int
    node: str
    said: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten(Fact):
    """What this node offered in its first ``incarnation`` starts counts no more. ``why``: what the operator said."""

    kind: ClassVar[str] = "forgotten"
    node: str
    incarnation: int
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed(Fact):
    """The commit point of a round: the model of this node is ``content`` now, mixed of its own and its neighbours'.

    ``number`` counts the node's rounds without gaps, ``epoch`` is the neighbours' count. ``root``: of the model that it
    offered. ``own_weight``: its share. ``parents``: node, root, epoch, weight, distance, cosine, clipped of each model
    that went in; ``refused``: node, root, code, message. ``ahead``: by how many epochs the farthest neighbour was.
    ``spread``: root mean square distance of the models to their mean; ``update``: norm of the training. ``kept_own``:
    the mix was worse and was dropped. ``metrics``: of the training; ``scores``: before and after mixing.
    """

    kind: ClassVar[str] = "mixed"
    number: int
    epoch: int
    root: str
    content: Digest
    own_weight: float
    parents: tuple[Mapping[str, Any], ...] = ()
    refused: tuple[Mapping[str, Any], ...] = ()
    missing: int = 0
    stale: int = 0
    ahead: int = 0
    spread: float | None = None
    update: float | None = None
    kept_own: bool = False
    training_failed: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


Member = Folded | Admitted
"""The fact by which a contribution entered the merge."""

Standby = Yielded | Deferred
"""The fact by which a contribution waits while another node counts it."""

Held = Quarantined | Released
"""The fact by which a contribution is in quarantine, or is let out of it and not folded yet."""

KINDS: Mapping[str, type[Fact]] = {
    fact.kind: fact
    for fact in (
        Initialised, Discovered, Rejected, Duplicate, Folded, Published, Pruned, Retracted, Admitted, Restated,
        Yielded, Deferred, United, Heard, Ruled, Forgotten, Mixed, Selected, Deselected, Quarantined, Released,
        Scored,
    )
}  # fmt: skip
"""Every kind of fact by its name on disk."""
