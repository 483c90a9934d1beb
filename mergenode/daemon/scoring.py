"""After a version is visible: what the task plug-in says of it. Nothing waits for it but the next fold."""

from __future__ import annotations

from pathlib import Path

from mergenode.daemon.contribute import Line
from mergenode.errors import MergenodeError
from mergenode.ledger.records import Published, Scored


def score(line: Line, published: Published) -> Scored | None:
    """Score a version and record it; None where nobody scores, or the plug-in failed, which is told and not repeated.

    Durability: the fact is in the ledger on return. A node that ends before that has no scores of this version; the
    next one has its own. Raises TransientError: the ledger cannot be written; Stopped: the node is asked to end.
    """
    if line.scorer is None:
        return None
    started = line.clock.monotonic()
    try:
        with line.scorer() as evaluate:
            scores = dict(evaluate(Path(published.path)))
    except MergenodeError as error:
        line.observer.message("warning", f"v{published.version:06d} has no scores: {error.message}", hint=error.hint)
        return None
    if not scores:
        return None
    fact = Scored(
        time=line.clock.now(), version=published.version, generation=published.generation, scores=scores,
        seconds=line.clock.monotonic() - started,
    )  # fmt: skip
    line.ledger.append(fact)
    line.observer.fact(fact)
    return fact
