"""The trace of a fact follows from the fact alone."""

from __future__ import annotations

from mergenode.ledger.codec import decode, encode
from mergenode.ledger.records import ContributionFact
from mergenode.ledger.traces import trace_of
from mergenode.tracing.ids import contribution_trace, push_trace, weights_trace
from tests.support import facts


def test_all_facts_about_one_contribution_have_one_trace() -> None:
    told = [facts.discovered(3), facts.folded(3), facts.rejected(3), facts.duplicate(3), facts.quarantined(3)]
    assert {trace_of(fact) for fact in told} == {contribution_trace(*_key(told[0]))}
    assert trace_of(facts.discovered(4)) != trace_of(facts.discovered(3))


def test_it_survives_the_ledger() -> None:
    fact = facts.folded(3)
    assert trace_of(decode(encode(fact), 1)) == trace_of(fact)


def test_a_push_has_the_trace_of_its_pusher_on_every_node() -> None:
    root = "0123456789abcdef" * 4
    for revision in ("r1", "r2"):
        fact = facts.folded(1, registry="push", name=f"tuned@{root[:12]}", revision=revision)
        assert trace_of(fact) == push_trace("tuned", root)


def test_facts_about_the_node_have_none_and_those_about_weights_have_theirs() -> None:
    assert trace_of(facts.initialised()) == trace_of(facts.published(1)) == trace_of(facts.pruned(1)) == ""
    heard, mixed = facts.heard(), facts.mixed(1)
    assert trace_of(heard) == weights_trace(heard.revision)
    assert trace_of(mixed) == (weights_trace(mixed.root) if mixed.root else "")


def _key(fact: ContributionFact) -> tuple[str, str, str]:
    return (fact.registry, fact.name, fact.revision)
