"""At start: make the files agree with the facts. Idempotent; a clean stop leaves nothing to do."""

from __future__ import annotations

from mergenode.daemon.contribute import Line, prune
from mergenode.errors import FatalError
from mergenode.ledger.records import Initialised, Pruned


def initialise(line: Line, origin: Initialised) -> Initialised:
    """Record base and method as the first fact, or check that they are still the same.

    Raises:
        FatalError: the state directory belongs to another base or method; the message names both.
    """
    known = line.ledger.initialised()
    if known is None:
        line.ledger.append(origin)
        line.observer.fact(origin)
        return origin
    if known.base != origin.base:
        raise FatalError(
            f"the base has digest {origin.base}, but this state directory was made for {known.base}",
            hint="Restore the original base, or give the node a new node.state directory.",
        )
    if (known.method, dict(known.options)) != (origin.method, dict(origin.options)):
        raise FatalError(
            f"the settings ask for {origin.method} {dict(origin.options)}, but this state directory was made with "
            f"{known.method} {dict(known.options)}",
            hint="Restore the method settings, or give the node a new node.state directory: statistics of one method "
            "mean nothing to another.",
        )
    return known


def recover(line: Line) -> None:
    """Bring files in line with the ledger: statistics, versions, ``latest``. Tells the observer what it did."""
    head = line.ledger.head()
    for sentence in line.generations.recover(head.generation):
        line.observer.message("info", f"recovery: {sentence}")
    published = line.ledger.versions()
    gone = tuple(fact.version for fact in published if line.publisher.visible(fact.version) is None)
    if gone:
        fact = Pruned(time=line.clock.now(), versions=gone)
        line.ledger.append(fact)
        line.observer.fact(fact)
        line.observer.message(
            "warning",
            f"recovery: the files of version {', '.join(map(str, gone))} are gone",
            hint="The running merge is not affected; the next fold publishes a new version.",
        )
    present = [fact.version for fact in published if fact.version not in gone]
    if present:
        line.publisher.point_latest(present[-1])
        prune(line)
