"""What the registries show and what the ledger knows about it: looked at again and again, kept small.

Registries list everything they hold, for years; almost all of it was settled long ago. A look costs one listing and
questions about what is new; between looks, and in memory, there is only what is still open plus one short value per
listed entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from mergenode.errors import MergenodeError, TransientError
from mergenode.ledger.records import (
    ContributionFact,
    Deselected,
    Discovered,
    Duplicate,
    Folded,
    Quarantined,
    Rejected,
    Released,
)
from mergenode.ledger.selection import in_pool
from mergenode.ledger.view import Key
from mergenode.ports.ledger_store import LedgerReader
from mergenode.ports.observer import Observer
from mergenode.ports.registry import Registry
from mergenode.types import Candidate, Digest, Listing


@dataclass(slots=True, kw_only=True)
class Observation:
    """The node is the only writer of its ledger, so what was asked once stays true until it records more.

    ``listings``: the last good answer of each registry, reduced to what is still open; ``unreachable``: the names of
    those that did not answer the last time. ``outcomes`` and ``order`` as in ``View``. ``pooled``: a selector chooses,
    so everything that it may choose stays open.
    """

    registries: Mapping[str, Registry]
    ledger: LedgerReader
    observer: Observer
    pooled: bool = False
    listings: dict[str, Listing] = field(default_factory=dict)
    unreachable: set[str] = field(default_factory=set)
    outcomes: dict[Key, ContributionFact] = field(default_factory=dict)
    order: dict[Key, int] = field(default_factory=dict)
    _listed: dict[str, frozenset[Key]] = field(default_factory=dict)
    _folded_as: dict[Digest, str | None] = field(default_factory=dict)

    def look(self) -> None:
        """List every registry. Raises TransientError when the ledger cannot be read; then look again."""
        for name, registry in self.registries.items():
            listing = self._ask(name, registry)
            if listing is not None:
                self.listings[name] = listing
                self._listed[name] = frozenset(_keys(listing))
        self._recall()
        for name, listing in self.listings.items():
            self.listings[name] = self._still_open(listing)
        promised = self._promised()
        self._folded_as = {content: name for content, name in self._folded_as.items() if content in promised}

    def contents(self) -> dict[Digest, str]:
        """Of the contents that open candidates promise: those in the merge, by the name each was folded as."""
        for content in self._promised():
            if content not in self._folded_as:
                folded = self.ledger.by_content(content)
                self._folded_as[content] = folded.name if folded else None
        return {content: name for content, name in self._folded_as.items() if name is not None}

    def recorded(self, fact: ContributionFact, sequence: int | None = None) -> None:
        """The node just recorded this fact."""
        key = (fact.registry, fact.name, fact.revision)
        self.outcomes[key] = _short(fact)
        if sequence is not None:
            self.order.setdefault(key, sequence)
        if isinstance(fact, Folded):
            self._folded_as[fact.content] = fact.name

    def settle(self, candidate: Candidate) -> None:
        """Tell every registry about a durable outcome: a request names the candidate of another registry.

        Raises TransientError when a registry cannot take note of it; it is told again.
        """
        for name, registry in self.registries.items():
            registry.settled(candidate)
            listing = self.listings.get(name)
            if candidate.forced and listing is not None and candidate in listing.candidates:
                left = tuple(other for other in listing.candidates if other != candidate)
                self.listings[name] = replace(listing, candidates=left)

    def doubt(self) -> None:
        """A write failed, perhaps only seemingly: ask the ledger again about everything that can still change."""
        self.outcomes = {key: fact for key, fact in self.outcomes.items() if isinstance(fact, Folded | Duplicate)}
        self.order.clear()
        self._folded_as.clear()

    def forget(self) -> None:
        """The merge was changed: what was settled may be open again."""
        self.doubt()
        self.outcomes.clear()

    def candidates(self) -> Iterator[Candidate]:
        """Open ones; the same revision twice when a request names it too."""
        for listing in self.listings.values():
            yield from listing.candidates

    def in_pool(self, candidate: Candidate) -> bool:
        """Whether a selector may choose it."""
        return in_pool(self.outcomes.get(candidate.key))

    def listed_keys(self) -> set[Key]:
        """Every revision that the registries hold, settled ones too."""
        return {key for keys in self._listed.values() for key in keys}

    def _ask(self, name: str, registry: Registry) -> Listing | None:
        """The registry's listing; None when it has none now: what it showed last stays, nothing was lost."""
        try:
            listing = registry.list()
        except TransientError as error:
            message = error.message
        except MergenodeError:
            raise
        except Exception as error:  # noqa: BLE001 - a defect met in one registry must not stop the others
            message = f"unexpected {type(error).__name__}: {error}"
            self.observer.message("error", f"registry {name}: {message}", exc=error)
        else:
            self.unreachable.discard(name)
            return listing
        self.unreachable.add(name)
        self.observer.listing_failed(name, message)
        return None

    def _recall(self) -> None:
        """Ask the ledger about revisions that are new here, forget those that are listed no more."""
        listed = self.listed_keys()
        outcomes = {key: fact for key, fact in self.outcomes.items() if key in listed}
        fresh = self.ledger.outcomes([key for key in listed if key not in outcomes])
        outcomes |= {key: _short(fact) for key, fact in fresh.items()}
        open_keys = {candidate.key for candidate in self.candidates() if self._is_open(candidate, outcomes)}
        order = {key: place for key, place in self.order.items() if key in open_keys}
        order |= self.ledger.discovered([key for key in open_keys if key not in order])
        self.outcomes, self.order = outcomes, order

    def _still_open(self, listing: Listing) -> Listing:
        return Listing(
            candidates=tuple(found for found in listing.candidates if self._is_open(found, self.outcomes)),
            unsettled=listing.unsettled,
            refused=tuple(
                entry for entry in listing.refused if isinstance(self.outcomes.get(entry.key), Discovered | None)
            ),
        )

    def _promised(self) -> set[Digest]:
        return {
            candidate.content
            for candidate in self.candidates()
            if candidate.content is not None and self._is_open(candidate, self.outcomes)
        }

    def _is_open(self, candidate: Candidate, outcomes: Mapping[Key, ContributionFact]) -> bool:
        """Requests stay until their registry has dropped them."""
        outcome = outcomes.get(candidate.key)
        if candidate.forced or outcome is None:
            return True
        return in_pool(outcome) if self.pooled else isinstance(outcome, Discovered | Deselected | Released)


def _keys(listing: Listing) -> Iterable[Key]:
    return [*(candidate.key for candidate in listing.candidates), *(entry.key for entry in listing.refused)]


def _short(fact: ContributionFact) -> ContributionFact:
    """The same outcome without its report: a folded fact of a large model holds tens of kilobytes."""
    match fact:
        case Folded():
            return replace(fact, groups=(), totals={}, warnings=(), location="", findings=())
        case Rejected() | Quarantined():
            return replace(fact, message="", hint="", findings=())
        case Discovered() | Duplicate():
            return fact
    return fact
