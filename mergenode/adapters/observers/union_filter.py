"""What of a union's ledger is news: which versions there are and who was heard, not every contribution of everybody."""

from __future__ import annotations

from mergenode.adapters.observers.fan_out import FanOut
from mergenode.ledger.records import Fact, Heard, Pruned, Published, United
from mergenode.ports.observer import Observer

_TOLD = (Published, Pruned, United, Heard)


class UnionObserver(FanOut):
    """Passes on everything but facts about single contributions: their own node told of those."""

    def __init__(self, observer: Observer) -> None:
        super().__init__([observer])

    def fact(self, fact: Fact) -> None:
        if isinstance(fact, _TOLD):
            super().fact(fact)
