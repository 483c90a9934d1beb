"""An objective on vectors: half the squared distance of the mix to a goal. What survives a crash lies in the world."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from mergenode.daemon.selected import Naming
from mergenode.daemon.selecting import Selecting
from mergenode.errors import RejectedError, RejectReason, TransientError, TransientReason
from mergenode.ledger.actions import Action, Stop, Wait
from mergenode.ledger.selection import objective_digest
from mergenode.ports.pool import Indexed, Scored, Unreadable, Weights
from mergenode.selectors.contract import Options
from mergenode.types import Candidate, Digest, Kind
from tests.support.fake_node import FakeNode
from tests.support.fake_ports import Checkpoint, Trouble, digest_of
from tests.support.memory_ledger import MemoryLedger

Vector = tuple[float, ...]


@dataclass
class QuadraticPool:
    """Implements ``Objective``; the base is 0. ``vectors``: task vector by content, ``places``: content by location.

    The samples are the coordinates. ``alone``: losses on them that are remembered, ``evaluated``: what was computed.
    """

    goal: Vector
    trouble: Trouble = field(default_factory=Trouble)
    vectors: dict[Digest, Vector] = field(default_factory=dict)
    places: dict[str, Digest] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)
    asked_for: list[Candidate] = field(default_factory=list)
    kept: set[Digest] = field(default_factory=set)
    asked: str = "distance"
    alone: dict[tuple[str, Digest], list[float]] = field(default_factory=dict)
    evaluated: list[Digest] = field(default_factory=list)
    _gradient: Vector = ()
    _factors: Mapping[Digest, float] = field(default_factory=dict)

    def index(self, candidate: Candidate) -> Indexed:
        self.trouble("index")
        self.read.append(candidate.name)
        self.asked_for.append(candidate)
        content = self.places.get(candidate.location)
        if content is None:
            raise TransientError(TransientReason.VANISHED, f"{candidate.location}: gone")
        if content not in self.vectors:
            raise RejectedError(RejectReason.SHAPE_MISMATCH, f"{candidate.name}: of another shape")
        self.trouble("index done")
        norm = sum(x * x for x in self.vectors[content]) ** 0.5
        return Indexed(candidate, content, Kind.FULL, norm, {"*": norm})

    def shorten(self, factors: Mapping[Digest, float]) -> None:
        self._factors = dict(factors)

    def counted(self, content: Digest) -> Vector:
        """Its task vector as it counts now."""
        return tuple(self._factors.get(content, 1.0) * x for x in self.vectors[content])

    def gradient_at(self, weights: Weights) -> float:
        self.trouble("gradient")
        mix = self.mix(weights)
        self._gradient = tuple(x - y for x, y in zip(mix, self.goal, strict=True))
        return self.loss(weights)

    def scores(self, pool: Mapping[Digest, Candidate], always: frozenset[Digest]) -> Scored:
        self.trouble("scores")
        self.asked_for += pool.values()
        gone = [candidate for candidate in pool.values() if candidate.location not in self.places]
        return Scored(
            {
                content: {"*": sum(g * x for g, x in zip(self._gradient, self.counted(content), strict=True))}
                for content, candidate in pool.items()
                if candidate not in gone
            },
            tuple(
                Unreadable(candidate, "vanished", f"{candidate.location}: gone", transient=True) for candidate in gone
            ),
        )

    def losses_along(self, start: Weights, end: Weights, shares: Sequence[float]) -> Sequence[float]:
        self.trouble("losses")
        here, there = self.mix(start), self.mix(end)
        return [self._loss(tuple((1 - s) * x + s * y for x, y in zip(here, there, strict=True))) for s in shares]

    def remembered(self, content: Digest) -> Sequence[float] | None:
        return self.alone.get((self.asked, content))

    def losses_alone(self, content: Digest) -> Sequence[float]:
        self.trouble("alone")
        if content not in self.places.values():
            raise TransientError(TransientReason.VANISHED, f"{content}: gone")
        self.evaluated.append(content)
        found = [0.5 * (x - y) ** 2 for x, y in zip(self.counted(content), self.goal, strict=True)]
        self.alone[self.asked, content] = found
        self.trouble("alone done")
        return found

    def keep_only(self, contents: Collection[Digest]) -> None:
        self.kept = set(contents)
        self.alone = {key: losses for key, losses in self.alone.items() if key[1] in self.kept}

    def mix(self, weights: Weights) -> Vector:
        total = [0.0] * len(self.goal)
        for content, weight in weights.get("*", {}).items():
            total = [t + weight * x for t, x in zip(total, self.counted(Digest(content)), strict=True)]
        return tuple(total)

    def loss(self, weights: Weights) -> float:
        return self._loss(self.mix(weights))

    def _loss(self, mix: Vector) -> float:
        return 0.5 * sum((x - y) ** 2 for x, y in zip(mix, self.goal, strict=True)) + 0.01


@dataclass
class SelectingNode(FakeNode):
    """A fake node with a pool of vectors. Contents follow from the vectors."""

    world: QuadraticPool = field(default_factory=lambda: QuadraticPool((1.0, 1.0, 0.0)))
    options: Options = field(default_factory=lambda: Options(variant="pairwise", step="line", rounds=300))
    tolerance: float = 1e-4
    naming: Naming = field(default_factory=lambda: Naming(floor=1e-6))
    longest: float | None = None
    limit: int | None = None
    asked: str = "distance"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.world.trouble = self.trouble

    def offer(self, name: str, vector: Vector | None, revision: str = "r1", **fields: object) -> Candidate:
        """A fine-tune with this task vector; None: one that cannot be read."""
        content = digest_of(f"vector {vector}")
        offered = self.put(name, revision, checkpoint=Checkpoint(content), **fields)
        self.world.places[offered.location] = content
        if vector is not None:
            self.world.vectors[content] = vector
        return offered

    def withdraw(self, name: str) -> None:
        """Its files and its entry are gone."""
        left = [other for other in self.inbox.listing.candidates if other.name != name]
        gone = [other for other in self.inbox.listing.candidates if other.name == name]
        self.inbox.listing = type(self.inbox.listing)(tuple(left))
        for candidate in gone:
            self.world.places.pop(candidate.location, None)
            self.disk.checkpoints.pop(candidate.location, None)

    def start(self, **changes: object):  # type: ignore[no-untyped-def]  # as FakeNode
        loop = super().start(**changes)
        self.world.asked = self.asked
        selecting = Selecting(
            line=loop.line, objective=self.world, identity=objective_digest({"what": self.asked}),
            options=self.options, tolerance=self.tolerance, naming=self.naming, longest=self.longest,
            limit=self.limit,
        )  # fmt: skip
        loop.selecting = selecting
        loop.__post_init__()
        return loop

    def drain(self, loop, limit: int = 1000) -> Action:  # type: ignore[no-untyped-def, override]  # as FakeNode
        loop.act(Wait(0.05, "poked"))
        for _ in range(limit):
            action = loop.decide()
            if isinstance(action, Stop) or (isinstance(action, Wait) and action.why == "nothing is pending"):
                return action
            loop.act(action)
        raise AssertionError("the loop does not come to rest")

    def drain_a_little(self, loop, steps: int) -> None:  # type: ignore[no-untyped-def]  # as FakeNode
        for _ in range(steps):
            loop.act(loop.decide())

    @property
    def weights(self) -> dict[str, float]:
        """What is in the merge, by name."""
        return {fact.name: fact.weight for _, fact in self.ledger.members()}

    @property
    def distance(self) -> float:
        """Of the merge to the goal, squared and halved."""
        members = [(fact.weight, self.world.vectors[fact.content]) for _, fact in self.ledger.members()]
        merge = [sum(weight * vector[i] for weight, vector in members) for i in range(len(self.world.goal))]
        return 0.5 * sum((x - y) ** 2 for x, y in zip(merge, self.world.goal, strict=True))

    def check(self) -> None:
        """What holds after every step of every life."""
        assert MemoryLedger.verify(self.ledger) == []
