"""What gates say goes into the ledger, and what they hold back comes in by the operator's word alone."""

from __future__ import annotations

import pytest

from mergenode.daemon.judging import MOST_CHARACTERS, MOST_FINDINGS, MOST_NUMBERS
from mergenode.errors import TransientError, TransientReason
from mergenode.ledger.changes import DROP, RELEASE
from mergenode.ledger.records import Folded, Quarantined, Rejected, Released
from mergenode.ports.gatekeeper import OBSERVE, QUARANTINE, REJECT
from tests.support.fake_node import FakeNode
from tests.support.fake_ports import digest_of, verdict

CONTENT = digest_of("a r1")


def held(node: FakeNode, *actions: str) -> Quarantined:
    """A node whose gates hold ``a`` back."""
    node.gatekeeper.says[CONTENT] = tuple(map(verdict, actions or (QUARANTINE,)))
    node.put("a", weight=0.5, profile=(("b*", 2.0),))
    node.drain(node.start())
    (fact,) = node.facts("quarantined")
    assert isinstance(fact, Quarantined)
    return fact


def test_what_a_gate_holds_back_is_recorded_with_all_that_was_found(node: FakeNode) -> None:
    fact = held(node, OBSERVE, QUARANTINE)
    assert (fact.name, fact.content, fact.gate, fact.reason) == ("a", CONTENT, "norm", "norm_above_median")
    assert fact.numbers == {"ratio": 9.0}
    assert [finding["action"] for finding in fact.findings] == [QUARANTINE, OBSERVE]
    assert (fact.location, fact.weight, fact.profile) == ("/inbox/a/r1", 0.5, {"b*": 2.0})
    assert node.folded == [] and node.disk.folding is None and node.disk.generations == {}


def test_the_strictest_gate_decides(node: FakeNode) -> None:
    node.gatekeeper.says[CONTENT] = (verdict(QUARANTINE), verdict(REJECT, "finite", reason="not_finite"))
    node.put("a")
    node.drain(node.start())
    (fact,) = node.facts("rejected")
    assert isinstance(fact, Rejected)
    assert (fact.reason, fact.content, len(fact.findings)) == ("not_finite", CONTENT, 2)
    assert node.facts("quarantined") == [] and node.disk.folding is None


def test_what_is_only_observed_is_folded_with_a_warning(node: FakeNode) -> None:
    node.gatekeeper.says[CONTENT] = (verdict(OBSERVE),)
    node.put("a")
    node.drain(node.start())
    (fact,) = node.facts("folded")
    assert isinstance(fact, Folded)
    assert fact.warnings == ("gate norm: 9 times the median",)
    assert [finding["gate"] for finding in fact.findings] == ["norm"]


def test_what_gates_say_is_bounded(node: FakeNode) -> None:
    long = verdict(QUARANTINE, message="x" * 9000, hint="y" * 9000, numbers={f"n{i}": float(i) for i in range(99)})
    node.gatekeeper.says[CONTENT] = (long,) * 99
    node.put("a")
    node.drain(node.start())
    (fact,) = node.facts("quarantined")
    assert isinstance(fact, Quarantined)
    assert len(fact.message) == len(fact.hint) == MOST_CHARACTERS
    assert len(fact.numbers) == MOST_NUMBERS and len(fact.findings) == MOST_FINDINGS


def test_numbers_that_are_none_stay_out_of_the_ledger(node: FakeNode) -> None:
    node.gatekeeper.says[CONTENT] = (verdict(numbers={"norm": float("inf"), "limit": 5.0}),)
    node.put("a")
    node.drain(node.start())
    (fact,) = node.facts("quarantined")
    assert isinstance(fact, Quarantined) and fact.numbers == {"limit": 5.0}


def test_a_release_folds_it_and_keeps_what_gates_find_as_a_warning(node: FakeNode) -> None:
    held(node)
    node.decide(RELEASE, CONTENT, why="on purpose")
    node.drain(node.start())
    (released,) = node.facts("released")
    assert isinstance(released, Released)
    assert (released.who, released.why) == ("ops", "on purpose")
    (fact,) = node.facts("folded")
    assert isinstance(fact, Folded)
    assert fact.weight == 0.5 and [finding["action"] for finding in fact.findings] == [OBSERVE]
    assert node.ledger.quarantine() == [] and node.changes.asked == []


def test_a_release_needs_no_registry_that_lists_it(node: FakeNode) -> None:
    """It was ingested by hand: the request was settled when it went into quarantine."""
    offered = node.put("a", weight=0.5)
    node.inbox.listing = type(node.inbox.listing)()
    node.ask(offered)
    node.gatekeeper.says[CONTENT] = (verdict(),)
    node.drain(node.start())
    assert node.asks.requests == [] and len(node.facts("quarantined")) == 1
    node.decide(RELEASE, CONTENT)
    node.drain(node.start())
    assert node.folded == ["a"]


def test_a_dropped_content_is_not_taken_again_under_any_name(node: FakeNode) -> None:
    held(node)
    node.decide(DROP, CONTENT, why="diverged")
    loop = node.start()
    node.drain(loop)
    (fact,) = node.facts("rejected")
    assert isinstance(fact, Rejected)
    assert fact.reason == "dropped" and "by ops: diverged" in fact.message
    node.put("copy", checkpoint=node.disk.checkpoints["/inbox/a/r1"])
    node.put("promised", checkpoint=node.disk.checkpoints["/inbox/a/r1"], content=CONTENT)
    node.drain(loop)
    assert node.rejected == {"a": "dropped", "copy": "dropped", "promised": "dropped"}
    assert node.engine.folds == ["copy"], "a promise is refused unread"


def test_an_ingest_has_a_dropped_content_judged_anew(node: FakeNode) -> None:
    held(node)
    node.decide(DROP, CONTENT)
    loop = node.start()
    node.drain(loop)
    node.ask(node.inbox.listing.candidates[0])
    node.drain(loop)
    assert len(node.facts("quarantined")) == 2, "gates are asked again"
    node.gatekeeper.says.clear()
    node.ask(node.inbox.listing.candidates[0])
    node.drain(loop)
    assert node.folded == ["a"] and node.ledger.quarantine() == []


def test_the_same_content_under_another_name_waits_too_and_is_let_in_once(node: FakeNode) -> None:
    held(node)
    node.put("copy", checkpoint=node.disk.checkpoints["/inbox/a/r1"])
    loop = node.start()
    node.drain(loop)
    assert [fact.name for fact in node.facts("quarantined")] == ["a", "copy"]  # type: ignore[attr-defined]  # both have names
    assert node.gatekeeper.judged == [CONTENT] and len(node.ledger.quarantine()) == 1
    node.decide(RELEASE, CONTENT)
    node.drain(loop)
    assert node.folded == ["a"] and [fact.name for fact in node.facts("duplicate")] == ["copy"]  # type: ignore[attr-defined]  # it has a name


def test_a_plug_in_that_fails_holds_up_nobody_else(node: FakeNode) -> None:
    node.trouble.plan("judge", TransientError(TransientReason.TASK_FAILED, "it hangs"))
    node.put("a")
    node.put("b")
    loop = node.start()
    node.drain(loop)
    assert node.folded == ["b", "a"], "it is tried again when it has rested"
    assert [(subject, reason) for subject, reason, _ in node.witness.retries] == [("a", "task_failed")]


def test_what_was_released_is_folded_even_where_it_cannot_be_judged(node: FakeNode) -> None:
    held(node)
    node.decide(RELEASE, CONTENT)
    node.trouble.plan("judge", TransientError(TransientReason.TASK_FAILED, "it hangs"))
    node.drain(node.start())
    assert node.folded == ["a"]
    assert ("warning", "'a' was released and is not judged: it hangs") in node.witness.messages


@pytest.mark.parametrize("decision", [RELEASE, DROP])
def test_a_decision_about_nothing_is_refused(node: FakeNode, decision: str) -> None:
    node.put("a")
    loop = node.start()
    node.drain(loop)
    change = node.decide(decision, digest_of("unknown"))
    node.drain(loop)
    assert "is not in quarantine" in node.changes.refusals[change.id]


@pytest.mark.parametrize(("decision", "kind"), [(RELEASE, "released"), (DROP, "rejected")])
def test_a_decision_that_comes_twice_is_one(node: FakeNode, decision: str, kind: str) -> None:
    """A kill came between the fact and the removal of the request."""
    held(node)
    node.decide(decision, CONTENT)
    node.decide(decision, CONTENT)
    node.drain(node.start())
    assert len(node.facts(kind)) == 1 and node.changes.refusals == {}
