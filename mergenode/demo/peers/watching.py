"""What the nodes of the ring did, read from their ledgers while they run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mergenode.demo.node import NodeProcess
from mergenode.ports.ledger_store import LedgerReader

SCORE = "accuracy"
"""The plug-in's name for what is watched."""


@dataclass(frozen=True, slots=True)
class Mixing:
    """One round of one node. Accuracies on the test images before and after mixing; ``heard``: models that went in.

    ``when``: seconds since 1970. ``spread``: root mean square distance of the models to their mean.
    """

    node: str
    epoch: int
    when: float
    trained: float
    mixed: float
    heard: int
    spread: float | None


def mixings(node: str, process: NodeProcess) -> list[Mixing]:
    """Every round that this node has committed, oldest first."""

    def read(reader: LedgerReader) -> Iterable[tuple[int, Any]]:
        return reader.facts(kinds=("mixed",))

    return [mixing(node, fact) for _, fact in process.ask(read)]


def mixing(node: str, fact: Any) -> Mixing:
    """A ``mixed`` fact. A round that nobody else's model went into has the accuracy of its training."""
    trained = float(fact.metrics[SCORE])
    after = fact.scores.get("mixed", {}).get(SCORE, trained)
    return Mixing(
        node=node,
        epoch=fact.epoch,
        when=datetime.fromisoformat(fact.time).timestamp(),
        trained=trained,
        mixed=trained if fact.kept_own else float(after),
        heard=len(fact.parents),
        spread=fact.spread,
    )
