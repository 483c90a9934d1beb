"""observe -> plan -> act, for ever.

Truth is what the registries list and what the ledger says; events only shorten the wait. All policy about failures is
here: transient ones back off, rejections were recorded by the line, everything else ends the node with a message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from mergenode.daemon.choosing import PoolChanged
from mergenode.daemon.contribute import Line, contribute, publish
from mergenode.daemon.housekeeping import forget_interrupted_work, measure
from mergenode.daemon.lifecycle import Lifecycle
from mergenode.daemon.mixing import Alone, Mixing
from mergenode.daemon.observation import Observation
from mergenode.daemon.patience import EVICT, MIX, NODE, PUBLISH, SELECT, Patience, Slot
from mergenode.daemon.places import place_of
from mergenode.daemon.quarantine import decide
from mergenode.daemon.scoring import score
from mergenode.daemon.selecting import Selecting
from mergenode.daemon.since import Since
from mergenode.daemon.tuning import Tuning, settled
from mergenode.errors import MergenodeError, RejectedError, TransientError, TransientReason
from mergenode.ledger.actions import (
    Action,
    Deselect,
    Discover,
    Evict,
    Fold,
    Index,
    MarkDuplicate,
    Mix,
    Publish,
    Refuse,
    Restate,
    Select,
    Stop,
    Wait,
)
from mergenode.ledger.changes import Change
from mergenode.ledger.plan import next_action, pending, settled_requests
from mergenode.ledger.records import ContributionFact, Discovered, Duplicate, Folded, Published, Rejected
from mergenode.ledger.selection import Standing
from mergenode.ledger.view import Key, Policy, View
from mergenode.ports.changes import ChangeRequests
from mergenode.ports.engine import Stopped
from mergenode.ports.pool import Unreadable
from mergenode.ports.registry import Registry
from mergenode.tracing.context import within
from mergenode.types import Candidate, Digest

_OF_THE_NODE = (TransientReason.DISK_FULL, TransientReason.WRITE_FAILED)
"""Failures that no other candidate would escape: the whole node waits, so that order stays that of arrival."""

_OF_THEMSELVES = (PUBLISH, MIX, SELECT, EVICT)
"""Work that waits alone, whatever failed."""

_REST_PER_LOOK = 10.0
"""While there is work, looking at large registries takes at most a tenth of the time."""


@dataclass(slots=True, kw_only=True)
class Loop:
    """The daemon's memory between decisions: nothing in it is needed after a restart."""

    line: Line
    registries: Mapping[str, Registry]
    changes: ChangeRequests
    policy: Policy
    lifecycle: Lifecycle
    jitter: Callable[[], float]
    once: bool = False
    told_by_asker: str | None = None
    """The request whose refusal is told by the process itself, not by this loop."""
    mixing: Mixing | None = None
    selecting: Selecting | None = None
    tuning: Tuning = settled
    seen: Observation = field(init=False)
    patience: Patience = field(init=False)
    _mixing: Mixing = field(init=False)
    _asked: tuple[Change, ...] = ()
    _looked_at: float | None = None
    _look_seconds: float = 0.0
    _waited: float = 0.0
    _since_publish: Since = field(init=False)
    _since_fold: Since = field(init=False)

    def __post_init__(self) -> None:
        self.seen = Observation(
            registries=self.registries, ledger=self.line.ledger, observer=self.line.observer,
            pooled=self.selecting is not None,
        )  # fmt: skip
        self.patience = Patience(clock=self.line.clock, jitter=self.jitter)
        self._since_publish = Since(self.line.ledger, self.line.clock, Published.kind)
        self._since_fold = Since(self.line.ledger, self.line.clock, Folded.kind)
        self._mixing = self.mixing if self.mixing is not None else Alone(self.line)

    def run(self) -> Stop:
        """Until a Stop is planned. Raises FatalError when the operator has to act."""
        while True:
            self.line.observer.heartbeat()
            self.tune()
            action = self.decide()
            if isinstance(action, Stop):
                return action
            with within(place_of(action, self.line.ledger)):
                self.act(action)

    def tune(self) -> None:
        """Take over settings that changed. Every action is done with one set of them from its start to its end."""
        if (tuned := self.tuning()) is None:
            return
        self.policy = replace(tuned.policy, publishes=self.policy.publishes)
        self.line = tuned.line(self.line)
        self._mixing.tune(tuned)
        if self.selecting is not None:
            self.selecting.line = self.line

    def decide(self) -> Action:
        """Observe if it is time to, and plan."""
        try:
            self._observe()
            return next_action(self.view())
        except TransientError as error:
            return self._blind(error)

    def view(self) -> View:
        """Everything the next decision depends on, now."""
        waiting = self.patience.waiting()
        selecting = self.selecting
        return View(
            head=self.line.ledger.head(),
            policy=self.policy,
            listings=self.seen.listings,
            unreachable=frozenset(self.seen.unreachable),
            outcomes=self.seen.outcomes,
            order=self.seen.order,
            contents=self.seen.contents(),
            waiting=waiting,
            publish_wait_seconds=self.patience.left(PUBLISH),
            node_wait_seconds=self.patience.left(NODE),
            seconds_since_publish=self._since_publish.seconds(asked=self.policy.publish_every_seconds is not None),
            hold_seconds=self._since_fold.left(self.policy.publish_hold_seconds),
            idle_seconds=self._waited,
            changes=self._asked,
            mixing=self._mixing.wanted(once=self.once),
            mix_wait_seconds=self.patience.left(MIX),
            selection=None if selecting is None else self._standing(selecting, waiting),
            draining=self.lifecycle.draining,
            once=self.once,
        )

    def _standing(self, selecting: Selecting, waiting: Mapping[Key, float]) -> Standing:
        standing = selecting.standing(self.seen, waiting)
        left = self.patience.left
        return replace(standing, wait_seconds=left(SELECT), evict_wait_seconds=left(EVICT))

    def _observe(self) -> None:
        now = self.line.clock.monotonic()
        rest = max(self.policy.poll_seconds, _REST_PER_LOOK * self._look_seconds)
        if self._looked_at is not None and now - self._looked_at < rest:
            return
        self._asked = tuple(self.changes.pending())
        self._mixing.observe()
        self.seen.look()
        self._looked_at, self._look_seconds = now, self.line.clock.monotonic() - now
        self.patience.keep_only(self.seen.listed_keys())
        self._tell()

    def _tell(self) -> None:
        """What was seen: to the registries that wait for an outcome, and to whoever watches."""
        view = self.view()
        for candidate in settled_requests(view):
            try:
                self.seen.settle(candidate)
            except TransientError as error:
                self.line.observer.message("warning", f"a request is answered but stays: {error.message}")
        waiting = pending(view)
        for name, listing in self.seen.listings.items():
            if name not in self.seen.unreachable:
                mine = sum(1 for candidate in waiting if candidate.registry == name)
                self.line.observer.listed(name, listing, mine)
        on_the_way = view.selection is not None and (view.selection.due or not view.selection.reached)
        if not (waiting or self._asked or view.mixing is not None or on_the_way):
            forget_interrupted_work(self.line, self.seen)
        measure(self.line)

    def _blind(self, error: TransientError) -> Action:
        """The ledger cannot be read now: nothing can be decided but to wait, or to stop when asked to."""
        self._looked_at = None
        if self.lifecycle.draining:
            return Stop(f"asked to stop, {error.message}", complete=False)
        delay = self._back_off(NODE, "ledger", error.reason.value, error.message, error.hint)
        if self.once and self._waited + delay > self.policy.once_patience_seconds:
            return Stop(f"gave up: {error.message}", complete=False)
        return Wait(delay, error.message)

    def act(self, action: Action) -> None:
        """Do what was planned. Transient failures are remembered, never raised."""
        match action:
            case Discover(candidates):
                self._attempt(NODE, "ledger", lambda: self._record(*map(self._discovered, candidates)))
            case Refuse(refused):
                facts = [
                    Rejected(
                        time=self.line.clock.now(), registry=e.registry, name=e.name, revision=e.revision,
                        reason=e.reason, message=e.message, hint=e.hint,
                    )
                    for e in refused
                ]  # fmt: skip
                self._attempt(NODE, "ledger", lambda: self._record(*facts))
            case MarkDuplicate(candidate, content, same_as):
                fact = Duplicate(
                    time=self.line.clock.now(), registry=candidate.registry, name=candidate.name,
                    revision=candidate.revision, content=content, same_as=same_as,
                )  # fmt: skip
                self._attempt(candidate.key, candidate.name, lambda: self._mark(candidate, fact))
            case Fold(candidate):
                self._attempt(candidate.key, candidate.name, lambda: self._contribute(candidate))
            case Restate(change):
                self._attempt(NODE, "change of the merge", lambda: self._restate(change))
            case Index() | Select() | Deselect() | Evict():
                self._choose(action)
            case Mix(step):
                self._attempt(MIX, "exchange with other nodes", lambda: self._mix(step))
            case Publish(generation, version):
                self._attempt(PUBLISH, f"v{version:06d}", lambda: self._publish(generation, version))
            case Wait(seconds, _why):
                self._wait(seconds)
            case Stop():
                pass
            case _:
                assert_never(action)

    def _discovered(self, candidate: Candidate) -> Discovered:
        return Discovered(
            time=self.line.clock.now(), registry=candidate.registry, name=candidate.name, revision=candidate.revision,
            location=candidate.location, size_bytes=candidate.size_bytes,
        )  # fmt: skip

    def _record(self, *facts: ContributionFact) -> None:
        last = self.line.ledger.append(*facts)
        for sequence, fact in enumerate(facts, start=last - len(facts) + 1):
            self.seen.recorded(fact, sequence if isinstance(fact, Discovered) else None)
            self.line.observer.fact(fact)

    def _mark(self, candidate: Candidate, fact: Duplicate) -> None:
        self._record(fact)
        self.seen.settle(candidate)

    def _contribute(self, candidate: Candidate) -> None:
        fact = contribute(self.line, candidate)
        self.seen.recorded(fact)
        if isinstance(fact, Folded):
            self._since_fold.happened()
            if (hold := self.policy.publish_hold_seconds) > 0 and self.policy.publishes:
                told = f"generation {fact.generation} is shown for {hold:g} s before a version holds it"
                self.line.observer.message("info", told, setting="publish.hold_seconds")
        self.seen.settle(candidate)

    def _restate(self, change: Change) -> None:
        try:
            if change.quarantine is None:
                self._mixing.change(change)
            else:
                self._decide_quarantine(change)
        except RejectedError as error:
            if change.id != self.told_by_asker:
                self.line.observer.message("error", f"the merge was not changed: {error.message}", hint=error.hint)
            self.changes.refused(change, error.message, error.hint)
        else:
            self.changes.done(change)
        self.seen.forget()  # what left may be asked for again, and other requests may wait
        if self.selecting is not None:
            self.selecting.forget()
        self._looked_at = None

    def _choose(self, action: Index | Select | Deselect | Evict) -> None:
        match action:
            case Index(candidate):
                # Whoever can be read may still not be folded: only a fold ends its back-off.
                self._attempt(candidate.key, candidate.name, lambda: self._index(candidate), clears=False)
            case Select():
                self._attempt(SELECT, "selection", self._select)
            case Deselect(contents):
                self._attempt(SELECT, "what was selected", lambda: self._deselect(contents))
            case Evict():
                self._attempt(EVICT, "who leaves the pool", self._evict)

    def _index(self, candidate: Candidate) -> None:
        assert self.selecting is not None  # it was planned
        for fact in self.selecting.index(candidate):
            self.seen.recorded(fact)
        if candidate.forced:
            self.seen.settle(candidate)
            self._looked_at = None  # listings hold only what was open

    def _select(self) -> None:
        assert self.selecting is not None
        try:
            self.selecting.select(self.seen, self.patience.waiting())
        except PoolChanged as changed:
            for found in changed.unreadable:
                self._leave_out(found)

    def _evict(self) -> None:
        assert self.selecting is not None
        try:
            facts = self.selecting.evict(self.seen, self.patience.waiting())
        except PoolChanged as changed:
            for found in changed.unreadable:
                self._leave_out(found)
            return
        for fact in facts:
            self.seen.recorded(fact)
        for fact in facts:  # a registry may keep files for them
            self.seen.settle(Candidate(fact.registry, fact.name, fact.revision, ""))

    def _leave_out(self, found: Unreadable) -> None:
        """What cannot be read is no part of the pool: for now, or for ever."""
        candidate = found.candidate
        if found.transient:
            self._back_off(candidate.key, candidate.name, found.reason, found.message, found.hint)
        else:
            self._record(
                Rejected(
                    time=self.line.clock.now(), registry=candidate.registry, name=candidate.name,
                    revision=candidate.revision, reason=found.reason, message=found.message, hint=found.hint,
                )
            )  # fmt: skip

    def _deselect(self, contents: tuple[Digest, ...]) -> None:
        assert self.selecting is not None
        self.selecting.deselect(contents)
        self.seen.forget()
        self._looked_at = None

    def _decide_quarantine(self, change: Change) -> None:
        facts = decide(self.line.ledger, change, self.line.clock.now())
        if facts:
            self._record(*facts)
            self.line.elsewhere.recorded(facts)
        for fact in facts:
            if isinstance(fact, Rejected):  # its registry may keep files for it
                self.seen.settle(Candidate(fact.registry, fact.name, fact.revision, ""))

    def _mix(self, step: object) -> None:
        if self._mixing.act(step):
            self.seen.forget()
            self._looked_at = None

    def _publish(self, generation: int, version: int) -> None:
        published = publish(self.line, generation, version)
        self._since_publish.happened()
        score(self.line, published)

    def _wait(self, seconds: float) -> None:
        started = self.line.clock.monotonic()
        self.lifecycle.wait(seconds)
        self._waited += self.line.clock.monotonic() - started
        self._looked_at = None  # whatever was waited for shows in a new look

    def _attempt(self, slot: Slot, subject: str, work: Callable[[], object], *, clears: bool = True) -> None:
        """Do it; on a transient failure remember when to try again, and go on. ``clears``: success says that the next
        work of this slot can succeed."""
        try:
            work()
        except TransientError as error:
            of_the_node = (error.of_node or error.reason in _OF_THE_NODE) and slot not in _OF_THEMSELVES
            self._back_off(NODE if of_the_node else slot, subject, error.reason.value, error.message, error.hint)
            self._doubt()
        except Stopped as stopped:
            self.line.observer.message("info", str(stopped))
        except MergenodeError:
            raise
        except Exception as error:  # noqa: BLE001 - a defect met by one contribution must not stop the others
            what = f"unexpected {type(error).__name__}: {error}"
            self.line.observer.message("error", f"{subject}: {what}", exc=error)
            self._back_off(slot, subject, "unexpected", what)
            self._doubt()
        else:
            if clears:
                self.patience.succeeded(slot)
            self._waited = 0.0

    def _doubt(self) -> None:
        """After a failure the facts decide, not what was remembered of them."""
        self.seen.doubt()
        self._looked_at = None

    def _back_off(self, slot: Slot, subject: str, reason: str, message: str, hint: str = "") -> float:
        delay = self.patience.failed(slot, reason)
        self.line.observer.retrying(subject, reason, message, delay, hint)
        return delay
