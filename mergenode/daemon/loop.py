"""observe -> plan -> act, for ever.

Truth is what the registries list and what the ledger says; events only shorten the wait. All policy about failures is
here: transient ones back off, rejections were recorded by the line, everything else ends the node with a message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from mergenode.daemon.contribute import Line, contribute, publish
from mergenode.daemon.lifecycle import Lifecycle
from mergenode.errors import MergenodeError, TransientError, TransientReason
from mergenode.ledger.actions import Action, Discover, Fold, MarkDuplicate, Publish, Refuse, Stop, Wait
from mergenode.ledger.backoff import backoff_seconds
from mergenode.ledger.plan import next_action, pending, settled_requests
from mergenode.ledger.records import ContributionFact, Discovered, Duplicate, Folded, Rejected
from mergenode.ledger.view import Key, Policy, View
from mergenode.ports.engine import Stopped
from mergenode.ports.registry import Registry
from mergenode.types import Candidate, Digest, Listing

_OF_THE_NODE = (TransientReason.DISK_FULL, TransientReason.WRITE_FAILED)
"""Failures that no other candidate would escape: the whole node waits, so that order stays that of arrival."""


@dataclass(slots=True)
class _Patience:
    """How often something failed in a row and when it may be tried again (monotonic seconds)."""

    failures: int = 0
    until: float = 0.0


@dataclass(slots=True, kw_only=True)
class Loop:
    """The daemon's memory between decisions: nothing in it is needed after a restart."""

    line: Line
    registries: Mapping[str, Registry]
    policy: Policy
    lifecycle: Lifecycle
    jitter: Callable[[], float]
    once: bool = False
    listings: dict[str, Listing] = field(default_factory=dict)
    unreachable: set[str] = field(default_factory=set)
    outcomes: dict[Key, ContributionFact] = field(default_factory=dict)
    order: dict[Key, int] = field(default_factory=dict)
    _listed_at: float | None = None
    _active_at: float | None = None
    _patience: dict[object, _Patience] = field(default_factory=dict)

    def run(self) -> Stop:
        """Until a Stop is planned. Raises FatalError when the operator has to act."""
        self._active_at = self.line.clock.monotonic()
        while True:
            self.line.observer.heartbeat()
            self._observe()
            action = next_action(self.view())
            if isinstance(action, Stop):
                return action
            self._act(action)

    def view(self) -> View:
        """Everything the next decision depends on, now."""
        clock, head = self.line.clock, self.line.ledger.head()
        now = clock.monotonic()
        waiting = {key: slot.until - now for key, slot in self._patience.items() if isinstance(key, tuple)}
        promised = {c.content for c in self._candidates() if c.content is not None and self._is_open(c)}
        return View(
            head=head,
            policy=self.policy,
            listings=self.listings,
            unreachable=frozenset(self.unreachable),
            outcomes=self.outcomes,
            order=self.order,
            contents=self._names_of(promised),
            waiting=waiting,
            publish_wait_seconds=self._wait_left("publish", now),
            node_wait_seconds=self._wait_left("node", now),
            seconds_since_publish=self._seconds_since_publish(),
            idle_seconds=now - (self._active_at or now),
            draining=self.lifecycle.draining,
            once=self.once,
        )

    def _observe(self) -> None:
        now = self.line.clock.monotonic()
        if self._listed_at is not None and now - self._listed_at < self.policy.poll_seconds:
            return
        self._listed_at = now
        for name, registry in self.registries.items():
            try:
                self.listings[name] = registry.list()
                self.unreachable.discard(name)
            except TransientError as error:
                # The last good listing stays: a share that is away for a while has lost nothing.
                self.unreachable.add(name)
                self.line.observer.listing_failed(name, error.message)
        keys = [candidate.key for candidate in self._candidates()]
        keys += [entry.key for listing in self.listings.values() for entry in listing.refused]
        self.outcomes = dict(self.line.ledger.outcomes(keys))
        self.order = dict(self.line.ledger.discovered(keys))
        listed = set(keys)
        self._patience = {k: v for k, v in self._patience.items() if not isinstance(k, tuple) or k in listed}
        self._tell_registries()

    def _tell_registries(self) -> None:
        view = self.view()
        for candidate in settled_requests(view):
            self._settled(candidate)
        waiting = pending(view)
        for name, listing in self.listings.items():
            if name not in self.unreachable:
                mine = sum(1 for candidate in waiting if candidate.registry == name)
                self.line.observer.listed(name, listing, mine)

    def _act(self, action: Action) -> None:
        match action:
            case Discover(candidates):
                self._discover(candidates)
            case Refuse():
                self._refuse(action)
            case MarkDuplicate(candidate, content, same_as):
                fact = Duplicate(
                    time=self.line.clock.now(), registry=candidate.registry, name=candidate.name,
                    revision=candidate.revision, content=content, same_as=same_as,
                )  # fmt: skip
                self._attempt(candidate.key, candidate.name, lambda: self._recorded(candidate, fact))
            case Fold(candidate):
                self._attempt(candidate.key, candidate.name, lambda: self._contribute(candidate))
            case Publish(generation, version):
                self._attempt("publish", f"v{version:06d}", lambda: publish(self.line, generation, version))
            case Wait(seconds, _why):
                if self.lifecycle.wait(seconds):
                    self._listed_at = None
                return
            case Stop():
                return
            case _:
                assert_never(action)
        self._active_at = self.line.clock.monotonic()

    def _discover(self, candidates: tuple[Candidate, ...]) -> None:
        facts = [
            Discovered(
                time=self.line.clock.now(), registry=c.registry, name=c.name, revision=c.revision,
                location=c.location, size_bytes=c.size_bytes,
            )
            for c in candidates
        ]  # fmt: skip
        self._append("node", facts)

    def _refuse(self, action: Refuse) -> None:
        facts = [
            Rejected(
                time=self.line.clock.now(), registry=e.registry, name=e.name, revision=e.revision,
                reason=e.reason, message=e.message, hint=e.hint,
            )
            for e in action.refused
        ]  # fmt: skip
        self._append("node", facts)

    def _append(self, slot: str, facts: list[Discovered] | list[Rejected]) -> None:
        def append() -> None:
            last = self.line.ledger.append(*facts)
            for sequence, fact in enumerate(facts, start=last - len(facts) + 1):
                key = (fact.registry, fact.name, fact.revision)
                self.outcomes[key] = fact
                self.order.setdefault(key, sequence)
                self.line.observer.fact(fact)

        self._attempt(slot, "ledger", append)

    def _contribute(self, candidate: Candidate) -> None:
        self.outcomes[candidate.key] = contribute(self.line, candidate)
        self._settled(candidate)

    def _recorded(self, candidate: Candidate, fact: ContributionFact) -> None:
        self.line.ledger.append(fact)
        self.outcomes[candidate.key] = fact
        self.line.observer.fact(fact)
        self._settled(candidate)

    def _settled(self, candidate: Candidate) -> None:
        """Tell every registry: a request names the candidate of another one."""
        for name, registry in self.registries.items():
            registry.settled(candidate)
            listing = self.listings.get(name)
            if candidate.forced and listing is not None and candidate in listing.candidates:
                left = tuple(c for c in listing.candidates if c != candidate)
                self.listings[name] = Listing(left, listing.unsettled, listing.refused)

    def _attempt(self, slot: object, subject: str, work: Callable[[], object]) -> None:
        """Do it; on a transient failure remember when to try again, and go on."""
        try:
            work()
        except TransientError as error:
            of_the_node = error.reason in _OF_THE_NODE and slot != "publish"
            self._back_off("node" if of_the_node else slot, subject, error.reason.value, error.message)
        except Stopped as stopped:
            self.line.observer.message("info", str(stopped))
        except (MergenodeError, KeyboardInterrupt):
            raise
        except Exception as error:  # noqa: BLE001 - a defect met by one contribution must not stop the others
            self.line.observer.message("error", f"{subject}: unexpected {type(error).__name__}: {error}", exc=error)
            self._back_off(slot, subject, "unexpected", f"{type(error).__name__}: {error}")
        else:
            self._patience.pop(slot, None)
            self._patience.pop("node", None)

    def _back_off(self, slot: object, subject: str, reason: str, message: str) -> None:
        patience = self._patience.setdefault(slot, _Patience())
        patience.failures += 1
        delay = backoff_seconds(patience.failures, self.jitter())
        patience.until = self.line.clock.monotonic() + delay
        self.line.observer.retrying(subject, reason, message, delay)

    def _wait_left(self, slot: str, now: float) -> float:
        return max(0.0, self._patience[slot].until - now) if slot in self._patience else 0.0

    def _seconds_since_publish(self) -> float | None:
        if self.policy.publish_every_seconds is None:
            return None
        newest = self.line.ledger.versions()
        return self.line.clock.unix() - self.line.clock.parse(newest[-1].time) if newest else None

    def _candidates(self) -> list[Candidate]:
        return [candidate for listing in self.listings.values() for candidate in listing.candidates]

    def _is_open(self, candidate: Candidate) -> bool:
        return not isinstance(self.outcomes.get(candidate.key), Folded | Duplicate)

    def _names_of(self, contents: set[Digest]) -> dict[Digest, str]:
        found = {content: self.line.ledger.by_content(content) for content in contents}
        return {content: folded.name for content, folded in found.items() if folded is not None}
