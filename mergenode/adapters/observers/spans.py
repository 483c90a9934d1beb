"""What took time outside any call of the line: until a checkpoint was complete, and the phases of a round."""

from __future__ import annotations

from collections import OrderedDict

from mergenode.ledger.records import Discovered, Fact, Mixed
from mergenode.ledger.traces import trace_of
from mergenode.ports.observer import Progress
from mergenode.tracing.context import at
from mergenode.tracing.ids import weights_trace
from mergenode.tracing.spans import Tracer
from mergenode.types import Listing

MOST_WATCHED = 1000
"""Entries that are watched while they settle; of further ones the span begins when they are complete."""
_NANO = 1_000_000_000


class SpanObserver:
    """An observer that tells a tracer. Called by the loop alone."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._first_seen: OrderedDict[tuple[str, str], int] = OrderedDict()

    def fact(self, fact: Fact) -> None:
        match fact:
            case Discovered():
                self._settled(fact)
            case Mixed():
                self._mixed(fact)

    def listed(self, registry: str, listing: Listing, pending: int) -> None:
        """Remember since when an entry is there and not complete; forget those that went away."""
        now, there = self._tracer.now(), {entry.name for entry in listing.unsettled}
        there |= {candidate.name for candidate in listing.candidates}
        for key in [key for key in self._first_seen if key[0] == registry and key[1] not in there]:
            del self._first_seen[key]
        for entry in listing.unsettled:
            if len(self._first_seen) < MOST_WATCHED:
                self._first_seen.setdefault((registry, entry.name), now)

    def progress(self, progress: Progress) -> None:
        """Spans are of whole pieces of work."""

    def listing_failed(self, registry: str, message: str) -> None:
        """No work was done."""

    def retrying(self, subject: str, reason: str, message: str, delay_seconds: float, hint: str = "") -> None:
        """The span of the work has its fault."""

    def heartbeat(self) -> None:
        """Nothing."""

    def sizes(self, *, statistics_bytes: int, published_bytes: int, disk_free_bytes: int) -> None:
        """Nothing."""

    def message(self, level: str, text: str, **fields: object) -> None:
        """Words are for the log."""

    def _settled(self, fact: Discovered) -> None:
        now = self._tracer.now()
        begun = self._first_seen.pop((fact.registry, fact.name), now)
        self._tracer.record(
            "settle", trace_of(fact), begun, now,
            registry=fact.registry, contribution=fact.name, size_bytes=fact.size_bytes,
        )  # fmt: skip

    def _mixed(self, fact: Mixed) -> None:
        """One after the other and as long as they took; where a restart lay between, they are moved together."""
        ended = self._tracer.now()
        at_ns = ended - sum(int(seconds * _NANO) for seconds in fact.seconds.values())
        links = [at(weights_trace(str(parent["root"]))) for parent in fact.parents]
        whole = self._tracer.record(
            "round", trace_of(fact), at_ns, ended, links=links, number=fact.number, epoch=fact.epoch,
            kept_own=fact.kept_own,
        )  # fmt: skip
        for phase, seconds in fact.seconds.items():
            after = at_ns + int(seconds * _NANO)
            self._tracer.record(f"round {phase}", trace_of(fact), at_ns, after, parent=whole)
            at_ns = after
