"""How much of a newcomer enters, between judging and committing it."""

from __future__ import annotations

from dataclasses import replace

from mergenode.errors import TransientError, TransientReason
from mergenode.ports.engine import Earlier, Engine
from mergenode.ports.observer import Observer
from mergenode.ports.weighing import Weighed, Weigher
from mergenode.types import Candidate, FoldResult, Head


def weigh_in(
    weigher: Weigher, engine: Engine, candidate: Candidate, head: Head, result: FoldResult, earlier: Earlier,
    observer: Observer,
) -> tuple[Candidate, FoldResult, Weighed]:  # fmt: skip
    """The candidate with the weight that was found, folded with it.

    ``result``: its fold with the weight that was given. Raises as ``Weigher.weigh``; TransientError
    (CHANGED_WHILE_READING) when it no longer holds what was judged.
    """
    weighed = weigher.weigh(candidate, head, earlier, observer)
    if weighed.weight == candidate.weight:
        return candidate, result, weighed
    candidate = replace(candidate, weight=weighed.weight)
    again = engine.fold(candidate, head, observer)
    if again.content != result.content:
        raise TransientError(
            TransientReason.CHANGED_WHILE_READING,
            f"{candidate.name}: changed while its weight was being found",
            hint="It is read again when it has settled; push checkpoints under a new name instead.",
        )
    return candidate, again, weighed
