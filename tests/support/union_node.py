"""A node of a union without files: statistics are small vectors of whole numbers, everything that decides is real."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from uuid import UUID

from blake3 import blake3

from mergenode.adapters.observers.fan_out import FanOut
from mergenode.daemon.contribute import Line, contribute
from mergenode.daemon.recover import initialise, recover
from mergenode.daemon.union import UnionMixing
from mergenode.errors import RejectedError, RejectReason, TransientError, TransientReason
from mergenode.ledger.part_codec import decode_part, encode_part
from mergenode.ledger.records import ContributionFact, Initialised
from mergenode.ledger.restatement import Replay, Subtract
from mergenode.ledger.union import Part, Selection
from mergenode.ledger.view import Policy
from mergenode.ports.engine import NOTHING_EARLIER, Earlier, Exported, ScaleReport
from mergenode.ports.exchange import Arrived, Offer
from mergenode.ports.observer import Observer
from mergenode.ports.restater import Restatement
from mergenode.types import Candidate, Digest, FoldResult, Head, Kind
from mergenode.wire.blocks import Root
from mergenode.wire.heads import Head as WireHead
from tests.support.clock import FakeClock
from tests.support.fake_ports import FakeDisk, FakeGenerations, FakePublisher
from tests.support.quick_ledger import QuickLedger

Vector = tuple[int, ...]
SILENT = FanOut([])
BASE = Digest(f"blake3:{'0' * 64}")
_ROOT = Root(bytes(32))
_SCALE = ScaleReport(used=1.0, own=1.0, norm_rule=1.0, update_norm=1.0, mean_norm=1.0)


def digest_of(text: str) -> Digest:
    return Digest(f"blake3:{blake3(text.encode()).hexdigest()}")


CONTENTS: tuple[Digest, ...] = tuple(digest_of(f"content {number}") for number in range(12))
VECTORS: Mapping[Digest, Vector] = {
    content: (1 << number, (number * 7919) % 1013, -number) for number, content in enumerate(CONTENTS)
}
ZERO: Vector = (0, 0, 0)


def plus(left: Vector, right: Vector, factor: int = 1) -> Vector:
    return tuple(a + factor * b for a, b in zip(left, right, strict=True))


@dataclass
class Shelf:
    """What an exchange keeps on disk. ``offered``: the node's own newest offer; ``here``: what came last of each."""

    node_id: UUID
    starts: int = 0
    offered: tuple[WireHead, bytes] | None = None
    newest: dict[UUID, tuple[WireHead, bytes]] = field(default_factory=dict)
    here: dict[UUID, tuple[WireHead, bytes]] = field(default_factory=dict)
    accused: list[str] = field(default_factory=list)

    def deliver(self, head: WireHead, text: bytes) -> bool:
        """A message came in, whenever it was sent. True when it was older than what is known."""
        known = self.newest.get(head.node_id)
        old = known is not None and head.position < known[0].position
        if not old:
            self.newest[head.node_id] = (head, text)
        self.here[head.node_id] = (head, text)
        return old


@dataclass
class HandExchange:
    """Implements ``Exchange`` for one process. Old heads are handed on as they come: nobody filters them here."""

    shelf: Shelf
    durable: Callable[[str], None]
    sent: Callable[[WireHead, bytes], None]
    texts: dict[Path, bytes] = field(default_factory=dict)
    seq: int = 0

    @property
    def node_id(self) -> UUID:
        return self.shelf.node_id

    @property
    def incarnation(self) -> int:
        return self.shelf.starts

    def offer(self, offer: Offer) -> WireHead:
        self.durable("offer")
        (path,) = offer.weights
        text = self.texts.pop(path)
        self.seq += 1
        root = Root(blake3(text).digest())
        head = WireHead("t", self.node_id, self.incarnation, offer.epoch, self.seq, root, bytes(32), _ROOT)
        self.shelf.offered = (head, text)
        self.durable("offer done")
        self.sent(head, text)
        return head

    def newest(self) -> Mapping[UUID, WireHead]:
        return {node: found[0] for node, found in self.shelf.newest.items() if node != self.node_id}

    def arrived(self) -> Mapping[UUID, Arrived]:
        return {node: Arrived(found[0], Path(found[0].root.hex())) for node, found in self.shelf.here.items()}

    def release(self, keep: Sequence[Root]) -> None:
        """Nothing takes space here."""

    def neighbours(self) -> Mapping[UUID, bool]:
        return {}

    def accuse(self, node_id: UUID, code: str, message: str) -> None:
        self.shelf.accused.append(code)

    def listen(self, poke: Callable[[], None]) -> None:
        """Everybody is asked all the time."""


@dataclass
class NodeDisk:
    """What outlives the process. ``files``: where a content lies; ``values``: statistics by digest, of all nodes."""

    shelf: Shelf
    own: QuickLedger
    united: QuickLedger
    values: dict[Digest, Vector]
    files: dict[str, Digest] = field(default_factory=dict)
    merge: FakeDisk = field(default_factory=FakeDisk)
    union: FakeDisk = field(default_factory=FakeDisk)
    parts: dict[tuple[str, str], Part] = field(default_factory=dict)


@dataclass
class VectorEngine:
    """Statistics are sums. Their digest depends on how they came about, as rounding does."""

    disk: NodeDisk
    durable: Callable[[str], None]

    def fold(self, candidate: Candidate, head: Head, observer: Observer) -> FoldResult:
        self.durable("fold")
        content = self.disk.files.get(candidate.location)
        if content is None:
            raise TransientError(TransientReason.VANISHED, f"{candidate.location}: gone")
        before = self._value(head)
        self.disk.merge.folding = self._store(
            f"{head.statistics} {content} {candidate.weight}", plus(before, VECTORS[content], int(candidate.weight))
        )
        self.durable("fold done")
        return FoldResult(content, Kind.FULL, self.disk.merge.folding, {"count": head.count + 1.0}, 1.0, 0.1, ())

    def export(self, head: Head, staging: str, observer: Observer, earlier: Earlier = NOTHING_EARLIER) -> Exported:
        self.durable("export")
        assert head.statistics is not None
        self.disk.union.staging[int(staging)] = head.statistics
        self.durable("export done")
        return Exported({"w": digest_of(f"{self.disk.values[head.statistics]}")}, 1, 1, _SCALE)

    def is_at_hand(self, candidate: Candidate) -> bool:
        return candidate.location in self.disk.files

    def restate(self, way: Subtract | Replay, observer: Observer) -> Restatement:
        self.durable("restate")
        candidates = way.removed if isinstance(way, Subtract) else way.folded
        start, sign = (way.head, -1) if isinstance(way, Subtract) else (way.start, 1)
        value, path = self._value(start), f"{start.statistics} {sign}"
        for candidate in candidates:
            content = self.disk.files.get(candidate.location)
            if content is None or content != candidate.content:
                raise RejectedError(RejectReason.GONE, f"{candidate.location}: gone")
            value, path = plus(value, VECTORS[content], sign * int(candidate.weight)), f"{path} {content}"
        self.disk.merge.folding = self._store(path, value)
        self.durable("restate done")
        return Restatement(self.disk.merge.folding, {})

    def clear(self) -> None:
        """Nothing is kept."""

    def _value(self, head: Head) -> Vector:
        return self.disk.values[head.statistics] if head.statistics is not None and head.count else ZERO

    def _store(self, path: str, value: Vector) -> Digest:
        statistics = digest_of(f"{value} by {path}")
        self.disk.values[statistics] = value
        return statistics


@lru_cache(maxsize=256)
def _read(text: bytes) -> Part:
    """Read once for all nodes."""
    return decode_part(text)


@dataclass
class VectorUniter:
    """Parts are their texts; statistics of all nodes lie in one table."""

    disk: NodeDisk
    exchange: HandExchange
    durable: Callable[[str], None]

    def heard(self) -> Sequence[Part]:
        return list(self.disk.parts.values())

    def admit(self, arrived: Arrived, others: Collection[Part]) -> Part:
        self.durable("admit")
        part = _read(self.disk.shelf.here[arrived.head.node_id][1])
        part = replace(part, position=arrived.head.position, root=arrived.head.root.hex())
        self.disk.parts[(part.node, part.root)] = part
        self.durable("admit done")
        return part

    def keep(self, parts: Collection[Part]) -> None:
        kept = {(part.node, part.root) for part in parts}
        self.disk.parts = {key: part for key, part in self.disk.parts.items() if key in kept}

    def present(self, part: Part, head: Head) -> Sequence[Path]:
        assert part.statistics == head.statistics
        path = Path("part")
        self.exchange.texts[path] = encode_part(part)
        return [path]

    def unite(self, selection: Selection, me: str, own: Head, observer: Observer) -> Restatement:
        self.durable("unite")
        value, path = ZERO, "union"
        for part in selection.parts:
            assert part.statistics is not None
            assert part.node != me or part.statistics == own.statistics
            value, path = plus(value, self.disk.values[part.statistics]), f"{path} {part.statistics}"
        statistics = digest_of(path)
        self.disk.values[statistics] = value
        self.disk.union.folding = statistics
        self.durable("unite done")
        return Restatement(statistics, {})


@dataclass
class UnionNode:
    """One node; ``start`` begins a process. ``durable`` is asked before and after everything that lasts."""

    node_id: UUID
    clock: FakeClock
    values: dict[Digest, Vector]
    durable: Callable[[str], None] = lambda what: None
    sent: Callable[[WireHead, bytes], None] = lambda head, text: None
    policy: Policy = field(default_factory=Policy)
    retractable: bool = True
    idempotent: bool = False
    mixing: UnionMixing = field(init=False)

    def __post_init__(self) -> None:
        ledgers = (QuickLedger(self._durable), QuickLedger(self._durable))
        self.disk = NodeDisk(Shelf(self.node_id), *ledgers, self.values)

    def _durable(self, what: str) -> None:
        self.durable(what)

    def start(self) -> None:
        """A new process on what the last one left."""
        disk = self.disk
        disk.shelf.starts += 1
        exchange = HandExchange(disk.shelf, self._durable, self.sent)
        engine = VectorEngine(disk, self._durable)
        own = Line(
            engine=engine, ledger=disk.own, generations=FakeGenerations(disk.merge, self._durable),  # type: ignore[arg-type]  # called alike
            publisher=FakePublisher(FakeDisk(), self._durable), restater=engine, observer=SILENT, clock=self.clock,  # type: ignore[arg-type]  # called alike
            retractable=self.retractable,
        )  # fmt: skip
        united = replace(
            own, ledger=disk.united, generations=FakeGenerations(disk.union, self._durable),  # type: ignore[arg-type]  # called alike
            publisher=FakePublisher(disk.union, self._durable),  # type: ignore[arg-type]  # called alike
        )  # fmt: skip
        origin = Initialised(time="t", ledger_id="l", base=BASE, method="sum", options={"a": 1})
        initialise(own, origin)
        own.generations.recover(disk.own.head().generation)
        initialise(united, origin)
        recover(united)
        self.mixing = UnionMixing(
            own=own, united=united, exchange=exchange, uniter=VectorUniter(disk, exchange, self._durable),
            policy=self.policy, idempotent=self.idempotent,
        )  # fmt: skip
        self.line = self.mixing.own
        self.mixing.start()

    def put(self, content: Digest, weight: int = 1, *, forced: bool = False, name: str = "") -> ContributionFact:
        """A contribution appears here, and is taken in at once."""
        name = name or f"m{CONTENTS.index(content)}"
        location = f"/{self.node_id}/{name}"
        self.disk.files[location] = content
        found = Candidate("inbox", name, "r", location, weight=float(weight), forced=forced)
        return contribute(self.line, found)

    def settle(self, most: int = 50) -> int:
        """Look, and do what is wanted; how many steps that took."""
        self.mixing.observe()
        for done in range(most):
            step = self.mixing.wanted(once=False)
            if step is None:
                return done
            self.mixing.act(step)
        return most

    @property
    def name(self) -> str:
        return str(self.node_id)

    @property
    def published(self) -> Mapping[str, object]:
        """The manifest of the newest version; empty when there is none."""
        disk = self.disk.union
        publisher = FakePublisher(disk, lambda what: None)  # type: ignore[arg-type]  # called alike
        return publisher.visible(disk.latest) or {} if disk.latest is not None else {}

    @property
    def value(self) -> Vector:
        """What the newest union adds up to."""
        head = self.disk.united.head()
        return self.values[head.statistics] if head.statistics is not None else ZERO
