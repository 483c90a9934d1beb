"""A node among others with one merge: its part is offered, those of others are heard, and their sum is published.

Two ledgers. That of the node says what is in its own merge, and holds the rulings; that of the union says what was
heard, added up and published, and follows from the first and the files. Both orders hold as everywhere: files, then the
fact that names them. Killed anywhere, the next start goes on from the facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mergenode.daemon.contribute import Line, contribute, publish
from mergenode.daemon.own_part import OwnPart
from mergenode.daemon.tuning import Tuned
from mergenode.daemon.union_commit import CanonicalMembers, Shown, commit_union
from mergenode.daemon.union_duties import give_up, rule_out, take_out
from mergenode.daemon.union_facts import heard, ruled
from mergenode.errors import RejectedError, RejectReason, TransientError, TransientReason
from mergenode.ledger.changes import Change
from mergenode.ledger.records import Deferred, Fact, Folded, Forgotten, Heard, Ruled
from mergenode.ledger.union import (
    NEVER,
    NOWHERE,
    Duties,
    Node,
    Part,
    Position,
    Ruling,
    Selection,
    Union,
    duties,
    joined,
    keeper,
    next_ruling,
    of_part,
    select,
)
from mergenode.ledger.union_plan import (
    Hear,
    Leave,
    Present,
    PublishUnion,
    Situation,
    Step,
    TakeBack,
    Unite,
    next_step,
)
from mergenode.ledger.view import Policy
from mergenode.ports.exchange import Arrived, Exchange, Offer
from mergenode.ports.uniter import Uniter
from mergenode.types import Candidate, Digest

MOST_RULINGS = 20_000
"""Kept at most: a part that brings more is refused."""


@dataclass(slots=True, kw_only=True)
class UnionMixing:
    """Implements ``Mixing`` and ``Elsewhere``. ``own``: the line of the own merge; ``united``: that of the union.

    ``idempotent``: of the method. What it remembers between steps follows from ledgers, files and the exchange.
    """

    own: Line
    united: Line
    exchange: Exchange
    uniter: Uniter
    policy: Policy
    idempotent: bool = False
    me: Node = field(init=False)
    part: OwnPart = field(init=False)
    others: Union = field(default_factory=Union)
    shown: Shown = field(default_factory=Shown)
    _refused: dict[Node, Position] = field(default_factory=dict)
    _arrived: dict[Node, Arrived] = field(default_factory=dict)
    _offered: tuple[int, int, int] | None = None
    _offered_at: float | None = None
    _published_at: float | None = None
    _obstructed_at: float | None = None
    _judged: tuple[Union, tuple[int, int, int], Union, Selection, Duties] | None = None

    def __post_init__(self) -> None:
        self.me = str(self.exchange.node_id)
        self.own = replace(self.own, elsewhere=self)
        self.united = replace(self.united, recent=CanonicalMembers(self.shown))

    def start(self) -> None:
        """From ledgers and files, after both lines were recovered."""
        origin = self.own.ledger.initialised()
        assert origin is not None  # a line is recovered after it was initialised
        self.part = OwnPart(self.own.ledger, self.me, origin)
        self.part.load()
        rulings, forgotten = {}, {}
        for _, fact in self.own.ledger.facts(kinds=["ruled", "forgotten"]):
            if isinstance(fact, Ruled):
                rulings[fact.content] = Ruling(fact.content, fact.number, fact.said, fact.node, fact.why)
            elif isinstance(fact, Forgotten):
                forgotten[fact.node] = fact.incarnation
        self.others = Union({}, rulings, forgotten)
        for part in self.uniter.heard():
            if self._was_recorded(part):
                self.others = joined(self.others, Union({part.node: part}))
        self.uniter.keep(self.others.parts.values())
        self.shown.load(self.united.ledger)

    def _was_recorded(self, part: Part) -> bool:
        """Whether the fact about it followed; else a kill came between, and it is heard again."""
        newest = self.united.ledger.facts(kinds=["heard"], name=part.node, newest=1)
        return any(isinstance(fact, Heard) and fact.revision == part.root for _, fact in newest)

    # ---- what the line of contributions asks

    def keeper(self, content: Digest) -> Node | None:
        return keeper(self._now()[1], self.me, content)

    def ruling(self, content: Digest) -> Ruling | None:
        return self.others.rulings.get(content)

    def readmission(self, content: Digest, now: str) -> tuple[Fact, ...]:
        ruling = next_ruling(self.others, content, out=False, node=self.me, said=now)
        return () if ruling is None else (ruled(ruling, now),)

    def recorded(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if isinstance(fact, Ruled):
                ruling = Ruling(fact.content, fact.number, fact.said, fact.node, fact.why)
                self.others = joined(self.others, Union({}, {fact.content: ruling}))
                self.part.said += 1
            elif isinstance(fact, Forgotten):
                self.others = joined(self.others, Union({}, {}, {fact.node: fact.incarnation}))
                self.part.said += 1
        self.part.recorded(facts)

    # ---- what the loop asks

    def observe(self) -> None:
        arrived = self.exchange.arrived()
        self._arrived = {str(node): found for node, found in arrived.items() if str(node) != self.me}

    def wanted(self, *, once: bool) -> Step | None:
        _, selection, todo = self._now()
        clock, head = self.own.clock.monotonic(), self.united.ledger.head()
        if not selection.obstacles:
            self._obstructed_at = None
        elif self._obstructed_at is None:
            self._obstructed_at = clock
        came, moved = self.shown.compared(selection)
        say = self._fingerprint()
        offered = self._offered
        return next_step(
            Situation(
                policy=self.policy,
                selection=selection,
                duties=todo,
                head=head,
                news=tuple(sorted(node for node, found in self._arrived.items() if self._is_news(node, found))),
                blocked=frozenset(self.part.unable),
                own_changes=0 if offered is None else say[0] + say[2] - offered[0] - offered[2],
                offer_now=offered is None or say[1] != offered[1],
                changed=came,
                unite_now=moved or came == 0,
                since_offer=None if self._offered_at is None else clock - self._offered_at,
                since_publish=None if self._published_at is None else clock - self._published_at,
                obstructed_seconds=0.0 if self._obstructed_at is None else clock - self._obstructed_at,
                once=once,
            )
        )

    def act(self, step: object) -> bool:
        match step:
            case Hear(node):
                self._hear(node)
            case Leave():
                return take_out(self.own, self.part, step, self.others)
            case TakeBack(content):
                return self._take_back(content)
            case Present():
                self._present()
            case Unite():
                own = (self.me, self.part.head)
                commit_union(self.united, self.uniter, self._now()[1], self.shown, own, self.others)
            case PublishUnion(generation, version):
                publish(self.united, generation, version)
                self._published_at = self.own.clock.monotonic()
            case _:
                raise TypeError(f"{step!r} is no step of a union")
        return False

    def change(self, change: Change) -> None:
        if change.forget is not None:
            give_up(self.own, self.others, self._newest_incarnation(change.forget), change)
            self.uniter.keep(self.others.parts.values())
            return
        rule_out(self.own, self.united, self.others, self.part, self.me, change)

    def tune(self, tuned: Tuned) -> None:
        self.own, self.united, self.policy = tuned.line(self.own), tuned.line(self.united), tuned.policy

    # ---- steps

    def _hear(self, node: Node) -> None:
        """Rulings first: they are in the own ledger before anything is done that follows from the part."""
        arrived = self._arrived[node]
        try:
            part = self.uniter.admit(arrived, list(self.others.parts.values()))
            more = len(self.others.rulings.keys() | part.rulings.keys())
            if more > MOST_RULINGS:
                raise RejectedError(RejectReason.TOO_LARGE, f"with its rulings there would be {more}")
        except RejectedError as error:
            self._refused[node] = arrived.head.position
            self.uniter.keep(self.others.parts.values())
            self.own.observer.message("error", f"the part of node {node} is refused: {error.message}", hint=error.hint)
            self.exchange.accuse(arrived.head.node_id, error.reason.value, error.message)
            return
        now = self.own.clock.now()
        news: list[Fact] = [
            ruled(ruling, now)
            for content, ruling in sorted(part.rulings.items())
            if content not in self.others.rulings or self.others.rulings[content] < ruling
        ]
        news += [
            Forgotten(time=now, node=gone, incarnation=incarnation)
            for gone, incarnation in sorted(part.forgotten.items())
            if self.others.forgotten.get(gone, NEVER) < incarnation
        ]
        if news:
            self.own.ledger.append(*news)
            for each in news:
                self.own.observer.fact(each)
            self.recorded(news)
        if self.exchange.incarnation <= part.forgotten.get(self.me, NEVER):
            text = "an operator told other nodes to forget this one: what it has does not count there"
            self.own.observer.message("error", text, hint="Start this node again to be counted again.")
        fact = heard(part, now)
        self.united.ledger.append(fact)
        self.united.observer.fact(fact)
        self.others = joined(self.others, of_part(part))
        self.uniter.keep(self.others.parts.values())
        self.exchange.release(())

    def _take_back(self, content: Digest) -> bool:
        waiting = self.part.standby[content]
        candidate = Candidate(
            waiting.registry, waiting.name, waiting.revision, waiting.location, weight=waiting.weight, content=content,
            forced=True, profile=tuple(sorted(waiting.profile.items())),
        )  # fmt: skip
        try:
            if not self.own.restater.is_at_hand(candidate):
                raise TransientError(TransientReason.VANISHED, f"{candidate.location}: is not there (any more)")
            fact = contribute(self.own, candidate)
        except TransientError as error:
            if error.reason is not TransientReason.VANISHED:
                raise
            self.part.cannot(content)
            text = f"{candidate.name!r} counts nowhere any more and cannot be folded again: {error.message}"
            self.own.observer.message("warning", text, hint="`mergenode ingest PATH` takes it in from another place.")
            return False
        return isinstance(fact, Folded | Deferred)

    def _present(self) -> None:
        say, part = self._fingerprint(), self._now()[0].parts[self.me]
        self.exchange.offer(
            Offer(weights=self.uniter.present(part, self.part.head), epoch=0, weight=float(self.part.head.count))
        )
        self._offered, self._offered_at = say, self.own.clock.monotonic()

    # ---- what follows from what is known

    def _now(self) -> tuple[Union, Selection, Duties]:
        """State, selection and duties; made again when something changed."""
        say = self._fingerprint()
        if self._judged is None or self._judged[0] is not self.others or self._judged[1] != say:
            state = self.others.with_own(self.part.part(self.others.rulings, self.others.forgotten))
            selection = select(state, idempotent=self.idempotent)
            todo = duties(state, self.me, selection, idempotent=self.idempotent)
            self._judged = (self.others, say, state, selection, todo)
        return self._judged[2:]

    def _fingerprint(self) -> tuple[int, int, int]:
        return self.part.head.generation, self.part.said, self.part.waited

    def _is_news(self, node: Node, found: Arrived) -> bool:
        known = self.others.parts.get(node)
        least = max(
            known.position if known is not None else NOWHERE,
            self._refused.get(node, NOWHERE),
        )
        position = found.head.position
        return position > least and position[0] > self.others.forgotten.get(node, NEVER)

    def _newest_incarnation(self, node: Node) -> int:
        known = self.others.parts.get(node)
        heads = {str(other): head.incarnation for other, head in self.exchange.newest().items()}
        return max(known.position[0] if known is not None else NEVER, heads.get(node, NEVER))
