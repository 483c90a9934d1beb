"""What an operator asked for from outside of all registries: it stays a contribution while its files are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from mergenode.adapters.presence import is_there
from mergenode.adapters.registries.requests import REGISTRY
from mergenode.ledger.records import Discovered
from mergenode.ports.ledger_store import LedgerReader
from mergenode.types import Candidate, Listing

INGESTED = "ingested"


class IngestedRegistry:
    """Lists requests that were answered. Whoever only folds needs none of this: a pool has to be read again.

    Args:
        past: the candidates of earlier requests, oldest first.
    """

    def __init__(self, past: Iterable[Candidate] = ()) -> None:
        self._candidates = {candidate.key: candidate for candidate in past}

    @property
    def name(self) -> str:
        return INGESTED

    def list(self) -> Listing:
        """Those whose files are still there. Raises TransientError when that cannot be told."""
        return Listing(tuple(found for found in self._candidates.values() if is_there(found.location)))

    def settled(self, candidate: Candidate) -> None:
        """A request was answered: from now on it is listed here."""
        if candidate.registry == REGISTRY:
            self._candidates.setdefault(candidate.key, replace(candidate, forced=False))

    def close(self) -> None:
        """Nothing is open."""


def past_requests(ledger: LedgerReader) -> Iterator[Candidate]:
    """Everything that was discovered by a request, as it would be listed. Reads all such facts, once per start."""
    for _, fact in ledger.facts(kinds=["discovered"]):
        if isinstance(fact, Discovered) and fact.registry == REGISTRY:
            yield Candidate(fact.registry, fact.name, fact.revision, fact.location, fact.size_bytes, attested=True)
