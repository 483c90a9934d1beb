"""Following the plan always ends, whatever arrives, fails or is forced, and keeps every promise on the way.

The model is a node without files: a ledger in memory, registries as lists, failures drawn by hypothesis.
"""

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.ledger.actions import Action, Discover, Fold, MarkDuplicate, Publish, Refuse, Stop, Wait
from mergenode.ledger.plan import next_action, settled_requests
from mergenode.ledger.records import Discovered, Duplicate, Folded, Published, Rejected
from mergenode.ledger.view import Policy, View
from mergenode.types import Candidate, Digest, Listing, Refused
from tests.support.facts import TIME, digest, folded, initialised, published
from tests.support.memory_ledger import MemoryLedger

STEPS = 250
"""More than any drawn schedule needs; reaching it means that the plan goes round in circles."""


@dataclass(frozen=True)
class Arrival:
    """An entry that appears after ``at`` actions. Content 0 is invalid; equal contents are copies."""

    at: int
    name: int
    revision: int
    content: int
    promised: bool
    forced: bool
    refused: bool


ARRIVALS = st.lists(
    st.builds(
        Arrival,
        at=st.integers(0, 12),
        name=st.integers(0, 3),
        revision=st.integers(0, 2),
        content=st.integers(0, 4),
        promised=st.booleans(),
        forced=st.booleans(),
        refused=st.sampled_from([False, False, False, True]),
    ),
    max_size=10,
)


@dataclass
class ModelNode:
    """Does what it is told; ``failures`` says, for one fold or publish after the other, whether it fails."""

    arrivals: list[Arrival]
    failures: list[bool]
    policy: Policy
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    waiting: dict[tuple[str, str, str], float] = field(default_factory=dict)
    publish_wait: float = 0.0
    entries: dict[tuple[str, str], Candidate | Refused] = field(default_factory=dict)
    contents: dict[tuple[str, str, str], int] = field(default_factory=dict)
    done: list[Action] = field(default_factory=list)

    def run(self) -> Stop:
        self.ledger.append(initialised())
        for step in range(STEPS):
            self._arrive(step)
            view = self._view(once=step > 12)
            action = next_action(view)
            assert next_action(view) == action, "planning twice gave two answers"
            self.done.append(action)
            if isinstance(action, Stop):
                return action
            self._act(action)
            for request in settled_requests(self._view(once=True)):
                self._settle(request)
        raise AssertionError(f"no end: {self.done[-6:]}")

    def _arrive(self, step: int) -> None:
        for arrival in self.arrivals:
            if arrival.at != step:
                continue
            registry, name = "requests" if arrival.forced else "inbox", f"m{arrival.name}"
            key = (registry, name, f"r{arrival.revision}")
            content = self.contents.setdefault(key, arrival.content)
            if arrival.refused:
                self.entries[key[:2]] = Refused(*key, "path_unsafe", "points outside")
                continue
            promise = digest(content) if arrival.promised else None
            self.entries[key[:2]] = Candidate(*key, "/there", content=promise, forced=arrival.forced)

    def _view(self, *, once: bool) -> View:
        listings: dict[str, Listing] = {}
        for registry in ("inbox", "requests"):
            here = [entry for (place, _), entry in self.entries.items() if place == registry]
            listings[registry] = Listing(
                candidates=tuple(entry for entry in here if isinstance(entry, Candidate)),
                refused=tuple(entry for entry in here if isinstance(entry, Refused)),
            )
        keys = [entry.key for entry in self.entries.values()]
        promised = {entry.content for entry in self.entries.values() if isinstance(entry, Candidate)}
        known = {content: self.ledger.by_content(content) for content in promised if content}
        return View(
            head=self.ledger.head(),
            policy=self.policy,
            listings=listings,
            outcomes=self.ledger.outcomes(keys),
            order=self.ledger.discovered(keys),
            contents={content: fold.name for content, fold in known.items() if fold},
            waiting=self.waiting,
            publish_wait_seconds=self.publish_wait,
            once=once,
        )

    def _act(self, action: Action) -> None:
        match action:
            case Discover(candidates=found):
                self.ledger.append(*(Discovered(**_about(each.key), location=each.location) for each in found))
            case Refuse(refused=entries):
                self.ledger.append(
                    *(Rejected(**_about(each.key), reason=each.reason, message=each.message) for each in entries)
                )
            case MarkDuplicate(candidate=candidate, content=content, same_as=name):
                self.ledger.append(Duplicate(**_about(candidate.key), content=content, same_as=name))
                self._settle(candidate)
            case Fold(candidate=candidate):
                self._fold(candidate)
            case Publish(generation=generation, version=version):
                if self._fails():
                    self.publish_wait = 5.0
                else:
                    self.ledger.append(published(version, generation=generation))
            case Wait(seconds=seconds):
                self.waiting = {key: left - seconds for key, left in self.waiting.items()}
                self.publish_wait -= seconds

    def _fold(self, candidate: Candidate) -> None:
        if self._fails():
            self.waiting[candidate.key] = 5.0
            return
        content = self.contents[candidate.key]
        same = self.ledger.by_content(digest(content))
        if content == 0:
            fact = Rejected(**_about(candidate.key), reason="not_finite", message="NaN")
        elif same:
            fact = Duplicate(**_about(candidate.key), content=digest(content), same_as=same.name)
        else:
            generation = self.ledger.head().generation + 1
            fact = replace(folded(generation, content=digest(content)), **_about(candidate.key))
        self.ledger.append(fact)
        self._settle(candidate)

    def _settle(self, candidate: Candidate) -> None:
        """A request is removed once it has an outcome; a file in a directory stays."""
        if candidate.forced:
            self.entries.pop((candidate.registry, candidate.name), None)

    def _fails(self) -> bool:
        return self.failures.pop() if self.failures else False


def _about(key: tuple[str, str, str]) -> dict[str, str]:
    return {"time": TIME, "registry": key[0], "name": key[1], "revision": key[2]}


SCHEDULES = {
    "arrivals": ARRIVALS,
    "failures": st.lists(st.booleans(), max_size=12),
    "every": st.integers(1, 3),
}


@settings(deadline=None, max_examples=150)
@given(**SCHEDULES)
def test_following_the_plan_ends_with_every_promise_kept(
    arrivals: list[Arrival], failures: list[bool], every: int
) -> None:
    node = ModelNode(arrivals, failures, Policy(publish_every_contributions=every))
    assert node.run() == Stop("nothing is pending")
    assert node.ledger.verify() == []
    _check_everything_is_done(node)
    _check_each_content_is_folded_once(node)
    _check_publication_follows_every_commit(node, every)
    _check_nothing_rejected_is_retried_without_force(node)


def _check_everything_is_done(node: ModelNode) -> None:
    head = node.ledger.head()
    assert head.published_generation == head.generation
    for entry in node.entries.values():
        outcome = node.ledger.outcomes([entry.key])[entry.key]
        assert isinstance(outcome, Folded | Duplicate | Rejected)


def _check_each_content_is_folded_once(node: ModelNode) -> None:
    contents: list[Digest] = [fact.content for _, fact in node.ledger.folds()]
    assert len(contents) == len(set(contents))


def _check_publication_follows_every_commit(node: ModelNode, every: int) -> None:
    unpublished = 0
    for _, fact in node.ledger.facts(kinds=["folded", "published"]):
        unpublished = 0 if isinstance(fact, Published) else unpublished + 1
        assert unpublished <= every


def _check_nothing_rejected_is_retried_without_force(node: ModelNode) -> None:
    seen: set[tuple[str, str, str]] = set()
    for _, fact in node.ledger.facts(kinds=["rejected"]):
        key = (fact.registry, fact.name, fact.revision)
        assert fact.registry == "requests" or key not in seen
        seen.add(key)


@settings(deadline=None, max_examples=60)
@given(**SCHEDULES)
def test_failures_to_publish_do_not_change_the_versions(
    arrivals: list[Arrival], failures: list[bool], every: int
) -> None:
    """What is there from the start and folds without failing becomes the same versions."""

    class OnlyPublishingFails(ModelNode):
        def _fold(self, candidate: Candidate) -> None:
            kept, self.failures = self.failures, []
            super()._fold(candidate)
            self.failures = kept

    present = [replace(arrival, at=0) for arrival in arrivals]
    policy = Policy(publish_every_contributions=every)
    disturbed, undisturbed = OnlyPublishingFails(present, failures, policy), ModelNode(present, [], policy)
    disturbed.run()
    undisturbed.run()
    assert [fact for _, fact in disturbed.ledger.facts()] == [fact for _, fact in undisturbed.ledger.facts()]
