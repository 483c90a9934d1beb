"""A selector chooses of the pool: what the loop asks and tells, and the fact ``selected``.

Holds no truth: all of it is in the ledger and in the files of the pool. Killed in the middle of a selection, the next
start makes it again from the same start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mergenode.daemon.choosing import choose
from mergenode.daemon.contribute import Line, rejected, tidy
from mergenode.daemon.evicting import Evicting, evicted_since, leaving
from mergenode.daemon.observation import Observation
from mergenode.daemon.restate import restate
from mergenode.daemon.selected import Naming, selected_fact
from mergenode.errors import RejectedError, RejectReason, TransientError, TransientReason
from mergenode.ledger.changes import Change
from mergenode.ledger.records import ContributionFact, Deselected, Discovered, Fact, Left, Member, Retracted, Selected
from mergenode.ledger.selection import Pool, Standing, Terms, kept, standing, target_of, terms_of
from mergenode.ledger.view import Key
from mergenode.ports.activity import ActivityKind
from mergenode.ports.pool import Indexed
from mergenode.ports.selecting import Objective
from mergenode.ports.told import Told
from mergenode.selectors.barycentric import warm_start
from mergenode.selectors.contract import Options, State
from mergenode.selectors.lengths import shortening
from mergenode.types import Candidate, Digest, Unsettled

_LOOKED_BACK = 8
"""Facts about other registries' entries of the same name that are looked through."""


@dataclass(slots=True, kw_only=True)
class Selecting:
    """Asked by the loop, in its thread. ``identity``: of what is asked of the pool, see ``objective_digest``.

    ``tolerance``: of the duality gap, as a share of the loss. ``naming``: how shares become weights. ``longest``: see
    ``selectors.lengths``. ``limit``: how many contents the pool keeps, None: all.
    ``settling_seconds``: how long a selection waits for entries that were in the pool once and do not lie still, as
    everything without a marker does not when a node starts. ``named``: registries of what the operator named himself,
    which may hold links (a download cache does).
    """

    line: Line
    objective: Objective
    identity: Digest
    options: Options
    tolerance: float
    naming: Naming
    longest: float | None = None
    limit: int | None = None
    settling_seconds: float = 600.0
    named: frozenset[str] = frozenset()
    newest: Selected | None = None
    _looked: bool = False
    _read: dict[Key, Indexed] = field(default_factory=dict)
    _members: dict[Digest, Terms] = field(default_factory=dict)
    _generation: int | None = None
    _offered: dict[tuple[str, str], bool] = field(default_factory=dict)
    _settling_since: float | None = None
    _evicted: set[Digest] = field(default_factory=set)
    _evicting: Evicting = field(init=False)

    def __post_init__(self) -> None:
        self._evicting = Evicting(objective=self.objective, tell=self._tell)

    def standing(self, seen: Observation, waiting: Mapping[Key, float]) -> Standing:
        """How far the merge is from what the pool asks for. Reads no files."""
        self._catch_up()
        pool = self.pool(seen, waiting)
        lost = [] if self.newest is None else [c for c in target_of(self.newest) if c not in self._members]
        return standing(
            self.newest, self.identity, self._members, pool,
            withdrawn={content for content in lost if self.line.ledger.retraction(content) is not None},
            evicted=self._evicted, limit=self.limit,
        )  # fmt: skip

    def pool(self, seen: Observation, waiting: Mapping[Key, float]) -> Pool:
        """What can be chosen. Of equal contents the one that was discovered first stands for all."""
        listed = sorted(seen.candidates(), key=lambda candidate: candidate.forced)  # a request counts more
        open_now = {candidate.key: candidate for candidate in listed if seen.in_pool(candidate)}
        self._read = {key: known for key, known in self._read.items() if key in open_now}
        readable: dict[Digest, Candidate] = {}
        unread, aside = [], []
        for key in sorted(open_now, key=lambda key: (seen.order.get(key, 0), key)):
            if key not in self._read or open_now[key].forced:
                unread.append(open_now[key])
            elif key in waiting:
                aside.append(open_now[key])
            else:
                readable.setdefault(self._read[key].content, self._trusted(open_now[key]))
        return Pool(
            readable=readable, unread=tuple(unread), aside=tuple(aside),
            complete=self._is_complete(seen),
        )  # fmt: skip

    def _is_complete(self, seen: Observation) -> bool:
        if any(name not in seen.listings for name in seen.registries):
            return False
        unsettled = [entry for listing in seen.listings.values() for entry in listing.unsettled]
        if not any(entry.seconds_left is not None and self._was_offered(entry) for entry in unsettled):
            self._settling_since = None
            return True
        now = self.line.clock.monotonic()
        if self._settling_since is None:
            self._settling_since = now
        return now - self._settling_since >= self.settling_seconds

    def _was_offered(self, entry: Unsettled) -> bool:
        place = (entry.registry, entry.name)
        if place not in self._offered:
            found = self.line.ledger.facts(kinds=["discovered"], name=entry.name, newest=_LOOKED_BACK)
            self._offered[place] = any(
                isinstance(fact, Discovered) and fact.registry == entry.registry for _, fact in found
            )
        return self._offered[place]

    def _trusted(self, candidate: Candidate) -> Candidate:
        return replace(candidate, forced=True) if candidate.registry in self.named else candidate

    def index(self, candidate: Candidate) -> tuple[ContributionFact, ...]:
        """Look into a candidate; the facts that were recorded: ``rejected``, or ``discovered`` anew for its content.

        Raises TransientError: it cannot be read now.
        """
        facts: tuple[ContributionFact, ...]
        try:
            known = self.objective.index(self._trusted(candidate))
            facts = self._readmitted(candidate, known.content)
        except RejectedError as error:
            facts = (rejected(self.line, candidate, error),)
        else:
            self._read[candidate.key] = known
        self._record(*facts)
        return facts

    def _readmitted(self, candidate: Candidate, content: Digest) -> tuple[ContributionFact, ...]:
        """What was retracted stays out under any name, unless the operator asks for it now. Raises RejectedError."""
        gone = self.line.ledger.retraction(content)
        if gone is None:
            return ()
        key = (gone.registry, gone.name, gone.revision)
        if not isinstance(self.line.ledger.outcomes([key]).get(key), Retracted):
            return ()
        if candidate.forced:
            return (
                Discovered(
                    time=self.line.clock.now(), registry=gone.registry, name=gone.name, revision=gone.revision,
                    location=candidate.location, size_bytes=candidate.size_bytes,
                ),
            )  # fmt: skip
        raise RejectedError(
            RejectReason.RETRACTED,
            f"{candidate.name}: its content was retracted as {gone.name!r} on {gone.time}",
            hint="Nothing is to be done, unless that was a mistake: `mergenode ingest PATH` offers it again.",
        )

    def select(self, seen: Observation, waiting: Mapping[Key, float]) -> Selected:
        """Choose of the pool as it is now, and record it.

        Durability: the fact is in the ledger. Raises PoolChanged, TransientError, Stopped: nothing was recorded.
        """
        self._catch_up()
        started = self.line.clock.monotonic()
        pool = self.pool(seen, waiting).readable
        norms, factors = self._lengths(pool)
        work = (ActivityKind.SELECTION, f"{len(pool)} contributions")
        with Told(self.line.observer, *work, total_steps=self.options.rounds, step="rounds") as told:

            def tell(text: str) -> None:
                told.add(1, 0)
                self._tell(text)

            chosen = choose(self.objective, pool, self._start(pool), self.options, self.tolerance, tell)
        naming = replace(self.naming, factors=factors)
        fact = selected_fact(
            chosen, pool, norms, naming, objective=self.identity, time=self.line.clock.now(),
            seconds=self.line.clock.monotonic() - started,
        )  # fmt: skip
        self._record(fact)
        self.newest, self._evicted = fact, set()
        known = {found.content for found in self._read.values()}
        tidy(self.line, lambda: self.objective.keep_only(known))
        return fact

    def evict(self, seen: Observation, waiting: Mapping[Key, float]) -> tuple[ContributionFact, ...]:
        """Make room: one content that was not yet is evaluated, or, where all were, who leaves is recorded; the facts.

        Durability: losses are on disk, facts in the ledger, all of them together.
        Raises PoolChanged, TransientError, Stopped: nothing was recorded.
        """
        self._catch_up()
        pool = self.pool(seen, waiting).readable
        if self.limit is None or len(pool) <= self.limit:
            return ()
        self._lengths(pool)
        losses = self._evicting.losses(pool)
        if losses is None:
            return ()
        known = self._read.values()
        facts = leaving(losses, known, self.limit, kept(self.newest, self._members), self.line.clock.now())
        self._record(*facts)
        self._evicted |= {fact.content for fact in facts if fact.content is not None}
        return facts

    def _lengths(self, pool: Mapping[Digest, Candidate]) -> tuple[dict[Digest, float], dict[Digest, float]]:
        """Norms of the pool's contents, and the factors by which the objective shortens them from now on."""
        norms = {known.content: known.norm for known in self._read.values() if known.content in pool}
        factors = shortening(norms, self.longest)
        self.objective.shorten(factors)
        return norms, factors

    def _start(self, pool: Mapping[Digest, Candidate]) -> State:
        """The weights of the newest selection, without what is gone. One that asked for something else is no start."""
        newest = self.newest
        if newest is None or newest.objective != self.identity:
            return State()
        known = [str(entry["content"]) for entry in newest.contents]
        weights = {group: dict(shares) for group, shares in newest.weights.items()}
        return warm_start(State(weights, newest.position), pool.keys(), known=known)

    def deselect(self, contents: tuple[Digest, ...]) -> None:
        """Take these out of the merge. Durability and Idempotence: see ``restate``.

        Raises TransientError: also where they cannot be taken out now, so that the last good version stays.
        """
        change = Change("selection", contents=contents)
        try:
            try:
                restate(self.line, change, departure=_leave)
            except RejectedError:
                # To subtract, files are needed that may be gone; what stays is in the pool and can be folded again.
                restate(replace(self.line, retractable=False), change, departure=_leave)
        except RejectedError as error:
            raise TransientError(TransientReason.VANISHED, error.message, hint=error.hint) from error

    def forget(self) -> None:
        """The operator changed the merge: contents are judged again."""
        self._read.clear()
        self._generation = None

    def _catch_up(self) -> None:
        ledger = self.line.ledger
        if not self._looked:
            found = ledger.facts(kinds=["selected"], newest=1)
            self.newest = next((fact for _, fact in found if isinstance(fact, Selected)), None)
            self._evicted = evicted_since(ledger, found[-1][0] if found else 0)
            self._looked = True
        generation = ledger.head().generation
        if generation != self._generation:
            self._members = {member.content: terms_of(member) for _, member in ledger.members()}
            self._generation = generation

    def _record(self, *facts: Fact) -> None:
        if facts:
            self.line.ledger.append(*facts)
        for fact in facts:
            self.line.observer.fact(fact)

    def _tell(self, text: str) -> None:
        self.line.observer.heartbeat()
        self.line.observer.message("info", text)


def _leave(member: Member, now: str) -> Left:
    return Deselected(
        time=now, registry=member.registry, name=member.name, revision=member.revision, content=member.content,
        weight=member.weight, profile=dict(member.profile),
    )  # fmt: skip
