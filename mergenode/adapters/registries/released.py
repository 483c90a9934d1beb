"""What the operator let out of quarantine, offered again beside what he asks for: its registry may list it no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mergenode.adapters.presence import is_there
from mergenode.errors import TransientError
from mergenode.ledger.records import Released
from mergenode.ports.ledger_store import LedgerReader
from mergenode.ports.registry import Registry
from mergenode.types import Candidate, Listing


def _is_there_now(location: str) -> bool:
    """A share that does not answer hides what lies on it; what else is asked for does not wait for it."""
    try:
        return is_there(location)
    except TransientError:
        return False


@dataclass(frozen=True, slots=True)
class WithReleased:
    """Implements ``ports.registry.Registry``: the listing of ``requests``, and every released contribution.

    Each under the registry, name and revision that it had, so that it is one contribution where it is still listed.
    Those whose files are gone are left out until they are back. Cost: one row of the ledger per released contribution
    that is not folded yet.
    """

    requests: Registry
    ledger: LedgerReader
    is_there: Callable[[str], bool] = _is_there_now

    @property
    def name(self) -> str:
        return self.requests.name

    def list(self) -> Listing:
        """Raises TransientError: as ``requests`` does, or when the ledger cannot be read."""
        listing = self.requests.list()
        released = [fact for _, fact in self.ledger.quarantine(kind=Released.kind) if isinstance(fact, Released)]
        offered = tuple(self._candidate(fact) for fact in released if fact.location and self.is_there(fact.location))
        return replace(listing, candidates=(*listing.candidates, *offered)) if offered else listing

    def settled(self, candidate: Candidate) -> None:
        self.requests.settled(candidate)

    def close(self) -> None:
        self.requests.close()

    def _candidate(self, fact: Released) -> Candidate:
        # What an operator named himself may be a link, and was taken as such the first time.
        return Candidate(
            fact.registry, fact.name, fact.revision, fact.location, weight=fact.weight,
            forced=fact.registry == self.name, profile=tuple(sorted(fact.profile.items())),
        )  # fmt: skip
