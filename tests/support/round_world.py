"""Nodes that train and mix in virtual time: the real rounds over models that are short vectors in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import torch
from blake3 import blake3
from torch import Tensor

from mergenode.daemon.circle import Circle, MixPolicy, Neighbourhood
from mergenode.daemon.contribute import Line
from mergenode.daemon.round import FIRST, begin
from mergenode.daemon.rounds import Rounds
from mergenode.errors import TransientError, TransientReason
from mergenode.ledger.records import Fact, Mixed
from mergenode.ledger.round_state import Phase, RoundState, parse_state, state_text
from mergenode.mixers.defence import Geometry, Recipe, mixed_block
from mergenode.mixers.rounds import RoundRules
from mergenode.mixers.topology import Topology
from mergenode.ports.rounds import Inspected, Trained
from mergenode.types import Digest
from tests.support.clock import FakeClock
from tests.support.facts import initialised
from tests.support.fake_node import HandLifecycle
from tests.support.fake_ports import FakeDisk, FakeLedger, FakePublisher, Trouble, Witness
from tests.support.round_exchange import WireExchange, Wires, node_id

Files = dict[Path, Tensor]


@dataclass
class MemoryModels:
    """Implements ports.rounds.Models on vectors, literally."""

    files: Files
    trouble: Trouble = field(default_factory=Trouble)

    def unite(self, checkpoint: Path, target: Path) -> None:
        self.files[target] = self.files[checkpoint]

    def inspect(self, own: Path, other: Path) -> Inspected:
        self.trouble("inspect")
        model = self.files[other]
        if not bool(model.isfinite().all()):
            return Inspected(0.0, "not_finite", "NaN")
        return Inspected(float(model.norm()))

    def measure(self, own: Path, start: Path, others: Sequence[Path]) -> Geometry:
        self.trouble("measure")
        centre = self.files[own]
        rows = [self.files[path] - centre for path in others]
        update = centre - self.files[start]
        return Geometry(
            gram=tuple(tuple(float(a @ b) for b in rows) for a in rows),
            along=tuple(float(a @ update) for a in rows),
            update_sq=float(update @ update),
        )

    def mix(self, own: Path, others: Sequence[Path], recipe: Recipe, target: Path) -> None:
        self.trouble("mix")
        self.files[target] = mixed_block(recipe, self.files[own], [self.files[path] for path in others])
        self.trouble("mix done")

    def content(self, model: Path) -> Digest:
        return Digest(f"blake3:{digest(self.files[model]).hex()}")

    def export(self, model: Path, staging: str) -> Mapping[str, Digest]:
        self.trouble("export")
        return {"x": self.content(model)}


def digest(model: Tensor) -> bytes:
    return blake3(model.contiguous().numpy().tobytes()).digest()


@dataclass
class MemoryStore:
    """Implements ports.rounds.RoundStore; what is in it survives a crash."""

    files: Files
    folder: Path
    trouble: Trouble = field(default_factory=Trouble)
    saved: RoundState | None = None
    names: set[str] = field(default_factory=set)

    def load(self) -> RoundState | None:
        """By way of text, as a new process would read it."""
        return None if self.saved is None else parse_state(state_text(self.saved), "memory")

    def save(self, state: RoundState) -> None:
        self.trouble("save")
        self.saved = state
        self.trouble("save done")

    def path(self, name: str) -> Path:
        return self.folder / name

    def staging(self, name: str) -> Path:
        self.names.add(f".new-{name}")
        return self.folder / f".new-{name}"

    def install(self, name: str) -> None:
        self.trouble("install")
        self.names.add(name)
        self.files[self.path(name)] = self.files.pop(self.staging(name))
        self.trouble("install done")

    def keep(self, source: Path, name: str) -> None:
        self.files[self.staging(name)] = self.files[source]
        self.install(name)

    def tidy(self, names: Sequence[str]) -> None:
        self.trouble("tidy")
        for name in self.names - set(names):
            self.files.pop(self.path(name), None)
        self.names &= set(names)


Step = Callable[[Tensor, int], Tensor]
"""What a training makes of a model, by epoch."""


@dataclass
class MemoryTrainer:
    """Implements ports.rounds.Trainer. ``fails``: how many of the next trainings end badly."""

    files: Files
    step: Step
    trouble: Trouble = field(default_factory=Trouble)
    fails: int = 0
    offered: frozenset[str] = frozenset({"train"})

    def methods(self) -> frozenset[str]:
        return self.offered

    def train(self, model: Path, round: int, target: Path) -> Trained:
        self.trouble("train")
        if self.fails:
            self.fails -= 1
            raise TransientError(TransientReason.TASK_FAILED, "the training diverged")
        self.files[target] = self.step(self.files[model], round)
        return Trained({"norm": float(self.files[target].norm())})

    def align(
        self, own: Path, others: Mapping[str, Path], targets: Mapping[str, Path], matching: str
    ) -> dict[str, str]:
        raise AssertionError("nothing is matched here")

    def recalibrate(self, model: Path, target: Path) -> int:
        raise AssertionError("there are no layers here")

    def losses(self, models: Sequence[Path]) -> list[float]:
        return [float(self.files[path].norm()) for path in models]

    def evaluate(self, checkpoint_dir: Path) -> Mapping[str, float]:
        return {"closeness": -float(self.files[checkpoint_dir].norm())}


class RoundLedger(FakeLedger):
    """The chain is recomputed and every rule asked only where ``strict``: schedules append thousands of facts."""

    strict = True

    def append(self, *facts: Fact) -> int:
        if self.strict:
            return super().append(*facts)
        self.trouble("append")
        self._recorded += [(len(self._recorded) + 1, fact) for fact in facts]
        self.trouble("append done")
        return len(self._recorded)

    def facts(
        self, *, kinds: Sequence[str] = (), name: str | None = None, newest: int | None = None
    ) -> Sequence[tuple[int, Fact]]:
        if newest == 1 and self._recorded and self._recorded[-1][1].kind in kinds:
            return self._recorded[-1:]
        return super().facts(kinds=kinds, name=name, newest=newest)


class RoundPublisher(FakePublisher):
    """Versions of rounds have no statistics."""

    def publish(self, version: int, manifest: Mapping[str, Any], content: bytes, card: str) -> None:
        self.trouble("rename")
        self.disk.versions[version] = content
        self.trouble("rename done")


@dataclass
class Peer:
    """A node whose process may die: ``store``, ``ledger`` and ``disk`` are what is left of it then."""

    number: int
    wires: Wires
    clock: FakeClock
    files: Files
    trainer: MemoryTrainer
    rules: RoundRules
    policy: MixPolicy
    neighbourhood: Neighbourhood
    trouble: Trouble = field(default_factory=Trouble)
    starts: int = 0

    def __post_init__(self) -> None:
        self.id: UUID = node_id(self.number)
        self.store = MemoryStore(self.files, Path(f"/n{self.number}"), self.trouble)
        self.disk = FakeDisk()
        self.ledger = RoundLedger(self.trouble)
        self.ledger.append(initialised())
        self.witness = Witness()
        self.trainer.trouble = self.trouble
        self.up = False
        self.accused: list[tuple[UUID, str]] = []

    def boot(self, first: Tensor | None = None) -> None:
        """A new process."""
        self.starts += 1
        self.exchange = WireExchange(self.wires, self.id, self.starts)
        self.exchange.accused = self.accused
        none: Any = None
        line = Line(
            engine=none, ledger=self.ledger, generations=none, publisher=RoundPublisher(self.disk, self.trouble),
            restater=none, observer=self.witness, clock=self.clock, keep=3,
        )  # fmt: skip
        circle = Circle(
            line=line, exchange=self.exchange, store=self.store, models=MemoryModels(self.files, self.trouble),
            trainer=self.trainer, rules=self.rules, policy=self.policy, neighbourhood=self.neighbourhood,
        )  # fmt: skip

        def make() -> None:
            assert first is not None, "a node that ran before begins anew"
            self.files[self.store.staging(FIRST)] = first

        self.up = True
        self.wires.down.discard(self.id)
        state = begin(circle, make)
        lifecycle = HandLifecycle(self.clock)
        self.rounds = Rounds(circle=circle, state=state, lifecycle=lifecycle, jitter=lambda: 0.5)

    def die(self) -> None:
        self.up = False
        self.wires.down.add(self.id)

    @property
    def state(self) -> RoundState:
        return self.rounds.state

    @property
    def model(self) -> Tensor:
        """What the next training starts from; of a round under way, what it started from."""
        return self.files[self.store.path(self.state.start)]

    @property
    def mixes(self) -> list[Mixed]:
        return [fact for _, fact in self.ledger.facts(kinds=["mixed"]) if isinstance(fact, Mixed)]


NEVER_PUBLISH = 1 << 30


def peers_on(
    topology: Topology, starts: Sequence[Tensor], step: Callable[[int], Step], *, rules: RoundRules | None = None,
    policy: MixPolicy | None = None, named: bool = False,
) -> list[Peer]:  # fmt: skip
    """Nodes that were not started yet, all on one clock and one set of wires."""
    clock, files = FakeClock(), {}
    edges = {
        node_id(i): frozenset(node_id(j) for j in topology.neighbours(i)) for i in range(topology.peers)
    }  # fmt: skip
    wires = Wires(edges, clock=clock.monotonic, root_of=lambda path: digest(files[path]))
    sent = itertools.count()

    def copied(path: Path, root: bytes) -> Path:
        place = Path(f"/sent/{next(sent)}")
        files[place] = files[path]
        return place

    wires.store = copied
    members = [node_id(i) for i in range(topology.peers)]
    return [
        Peer(
            number=i, wires=wires, clock=clock, files=files, trainer=MemoryTrainer(files, step(i)),
            rules=rules or RoundRules(),
            policy=policy or MixPolicy(clip=None, publish_every=NEVER_PUBLISH),
            neighbourhood=Neighbourhood.named(topology, members, members[i]) if named else Neighbourhood(),
        )
        for i in range(len(starts))
    ]  # fmt: skip


def in_turn(peers: Sequence[Peer], rounds: int, most: int = 100_000) -> None:
    """Everybody that is up steps in turn until all of them have finished so many rounds; time passes when all wait."""
    for _ in range(most):
        busy = [peer for peer in peers if peer.up and peer.state.number < rounds]
        if not busy:
            return
        waits = [peer.rounds.step() for peer in busy]
        if all(waits):
            peers[0].clock.advance(min(waits))
    raise AssertionError([(peer.state.number, peer.state.phase) for peer in peers])


def mean_of(models: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(models)).mean(dim=0)


def distance_of(models: Sequence[Tensor]) -> float:
    """Root mean square distance to the mean."""
    stacked = torch.stack(list(models))
    return float((stacked - stacked.mean(dim=0)).square().sum(dim=1).mean().sqrt())


def resting(state: RoundState) -> bool:
    return state.phase is Phase.REST
