"""The trace that a fact belongs to. It follows from the fact alone: replays, peers and readers say the same."""

from __future__ import annotations

from mergenode.ledger.records import ContributionFact, Fact, Heard, Mixed
from mergenode.tracing.ids import contribution_trace, weights_trace


def trace_of(fact: Fact) -> str:
    """32 hexadecimal digits; empty for facts about the node itself.

    Parts of other nodes and rounds belong to the weights that are offered, whose root every node knows.
    """
    match fact:
        case Heard():
            return weights_trace(fact.revision)
        case ContributionFact():
            return contribution_trace(fact.registry, fact.name, fact.revision)
        case Mixed():
            return weights_trace(fact.root) if fact.root else ""
        case _:
            return ""
