"""At start: make the files agree with the facts. Idempotent; a clean stop leaves nothing to do."""

from __future__ import annotations

import json
from dataclasses import replace

from mergenode.daemon.contribute import Line, make_visible, prune, publish, record_gone
from mergenode.errors import FatalError, UsageError
from mergenode.ledger.records import Initialised, Published
from mergenode.types import Head


def initialise(line: Line, origin: Initialised) -> Initialised:
    """Record base and method as the first fact, or check that they are still the same.

    Raises:
        FatalError: the state directory belongs to another base; the message names both.
        UsageError: it belongs to another method, or to other options; the message names what differs.
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
        raise UsageError(
            f"this state directory was made with {_otherwise(known, origin)}",
            hint="Restore the settings of method and protect, and the files that protect names, or give the node a new "
            "node.state directory, into which it folds everything again: a state keeps method and options for good.",
        )
    return known


def _otherwise(known: Initialised, wanted: Initialised) -> str:
    """The method of the state and that of the settings, where they differ; of options only those that do."""
    if known.method != wanted.method:
        return f"method {known.method}, but the settings ask for {wanted.method}"
    names = [name for name in sorted({*known.options, *wanted.options}) if _value(known, name) != _value(wanted, name)]
    options = ", ".join(f"{name} {_value(known, name)} (the settings: {_value(wanted, name)})" for name in names)
    return f"other options of method {known.method}: {options}"


def _value(origin: Initialised, option: str) -> str:
    return json.dumps(origin.options[option], sort_keys=True) if option in origin.options else "not set"


def recover(line: Line) -> None:
    """Bring files in line with the ledger: statistics, versions, ``latest``. Tells the observer what it did."""
    head = line.ledger.head()
    for sentence in line.generations.recover(head.generation):
        line.observer.message("info", f"recovery: {sentence}")
    gone = record_gone(line)
    if gone:
        line.observer.message(
            "warning",
            f"recovery: the files of version {', '.join(map(str, gone))} are gone",
            hint="The running merge is not affected.",
        )
    versions = line.ledger.versions()
    if versions and not line.publisher.holds(versions[-1].version):
        _make_again(line, head, versions[-1])
    if _lies_unrecorded(line, head):
        publish(line, head.generation, head.version + 1)
        return
    present = [fact.version for fact in versions if line.publisher.holds(fact.version)]
    if present:
        line.publisher.point_latest(present[-1])
        prune(line)


def _lies_unrecorded(line: Line, head: Head) -> bool:
    """Whether the next version was renamed into place and a kill came before its fact.

    It is completed at once. Left to the plan, ``latest`` would first move back from it, and a contribution folded
    meanwhile would want its number.
    """
    if head.generation <= head.published_generation:
        return False
    in_place = line.publisher.visible(head.version + 1)
    return in_place is not None and in_place.get("lineage") == head.lineage


def _make_again(line: Line, head: Head, newest: Published) -> None:
    """The newest version's files are gone. While its statistics are the current ones, the same bytes come again."""
    if newest.round is not None or newest.generation != head.generation:
        text = f"recovery: the files of version {newest.version} are gone; version {newest.version + 1} is due"
        line.observer.message("warning", text)
        return
    make_visible(line, replace(head, version=newest.version - 1), newest.version, newest.scale)
    line.observer.message("warning", f"recovery: the files of version {newest.version} were gone and are made again")
    if line.publisher.digest(newest.version) != newest.digest:
        line.observer.message(
            "warning",
            f"recovery: version {newest.version} does not come out as it was recorded",
            hint="Was publish.dtype changed since? `mergenode verify` names it until the next version is published.",
        )
