"""At start: make the files agree with the facts. Idempotent; a clean stop leaves nothing to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from mergenode.daemon.contribute import Line, make_visible, prune, publish, record_gone
from mergenode.errors import FatalError, UsageError
from mergenode.ledger.records import Initialised, Published
from mergenode.types import Digest, Head


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
    require_same(known, origin.base, origin.method, origin.options)
    return known


def require_same(known: Initialised, base: Digest, method: str, options: Mapping[str, object]) -> None:
    """Base and method are those that the state directory was made for.

    Raises:
        FatalError: it was made for another base; the message names both.
        UsageError: for another method, or other options; the message names what differs.
    """
    if known.base != base:
        raise FatalError(
            f"the base has digest {base}, but this state directory was made for {known.base}",
            hint="Restore the original base, or give the node a new node.state directory.",
        )
    if (known.method, dict(known.options)) != (method, dict(options)):
        raise UsageError(
            f"this state directory was made with {_otherwise(known, method, options)}",
            hint="Restore the settings of method and protect, and the files that protect names, or give the node a new "
            "node.state directory, into which it folds everything again: a state keeps method and options for good.",
        )


def _otherwise(known: Initialised, method: str, options: Mapping[str, object]) -> str:
    """The method of the state and that of the settings, where they differ; of options only those that do."""
    if known.method != method:
        return f"method {known.method}, but the settings ask for {method}"
    pairs = [(name, _value(known.options, name), _value(options, name)) for name in sorted({*known.options, *options})]
    told = ", ".join(f"{name} {one} (the settings: {other})" for name, one, other in pairs if one != other)
    return f"other options of method {known.method}: {told}"


def _value(options: Mapping[str, object], name: str) -> str:
    return json.dumps(options[name], sort_keys=True) if name in options else "not set"


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
