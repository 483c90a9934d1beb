"""Reading a whole ledger again from its first fact: what does not follow, in sentences that name the fact.

One pass, in order. After a finding the audit goes on from what is stored, so that one change shows as one
finding and not as one per later fact. Memory: one digest per folded contribution, one number per available
version.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from mergenode.errors import FatalError
from mergenode.ledger.canonical import canonical, parse
from mergenode.ledger.chain import GENESIS, Entry, link
from mergenode.ledger.codec import decode
from mergenode.ledger.records import Admitted, Fact, Folded, Left, Pruned, Published, Quarantined, Rejected, Released
from mergenode.ledger.transitions import Position, advance, objections
from mergenode.types import Digest


class Audit:
    """An audit under way. Feed it every entry in order; afterwards it knows what the facts add up to."""

    def __init__(self) -> None:
        self._sequence = 0
        self._hash = GENESIS
        self._position = Position()
        self._names: dict[Digest, str] = {}
        self._members: dict[Digest, int] = {}
        self._held: dict[Digest, int] = {}
        self._available: dict[int, int] = {}
        self._counts: Counter[str] = Counter()

    @property
    def counts(self) -> Mapping[str, int]:
        """Facts seen so far, by kind."""
        return dict(self._counts)

    @property
    def members(self) -> Mapping[Digest, int]:
        """Contents in the merge so far, with the sequence number of the fact by which each entered."""
        return dict(self._members)

    @property
    def held(self) -> Mapping[Digest, int]:
        """Contents in quarantine, or released and not folded yet, with the sequence number of their newest fact."""
        return dict(self._held)

    @property
    def restating(self) -> bool:
        """True where the last fact asks for one more."""
        return self._position.restating

    @property
    def available(self) -> Mapping[int, int]:
        """Versions published and not pruned so far, with the sequence number of their fact, oldest first."""
        return dict(self._available)

    def folded_as(self, content: Digest) -> str | None:
        return self._names.get(content)

    def is_available(self, version: int) -> bool:
        return version in self._available

    def examine(self, entry: Entry) -> tuple[Fact | None, Sequence[str]]:
        """The entry's fact (None when it cannot be read) and what is wrong with the entry, in sentences."""
        findings = [f"fact {entry.sequence}: {finding}" for finding in self._chain_findings(entry)]
        self._sequence, self._hash = entry.sequence, entry.hash
        try:
            fact = decode(entry.body, entry.sequence)
        except FatalError as error:
            return None, (*findings, error.message)
        if canonical(parse(entry.body)) != entry.body:
            findings.append(f"fact {entry.sequence}: the body is not canonical")
        findings += [f"fact {entry.sequence}: {objection}" for objection in objections(self._position, fact, self)]
        self._take_in(entry.sequence, fact)
        return fact, findings

    def _chain_findings(self, entry: Entry) -> Iterator[str]:
        if entry.sequence != self._sequence + 1:
            yield f"follows fact {self._sequence}; facts between them are missing"
        if entry.previous != self._hash:
            yield "names another predecessor than the fact before it"
        if entry.hash != link(entry.previous, entry.sequence, entry.body):
            yield "its hash does not match its content"

    def _take_in(self, sequence: int, fact: Fact) -> None:
        self._position = advance(self._position, fact)
        self._counts[fact.kind] += 1
        match fact:
            case Folded() | Admitted():
                self._held.pop(fact.content, None)
                if fact.content not in self._names:
                    self._names[fact.content], self._members[fact.content] = fact.name, sequence
            case Left():
                self._names.pop(fact.content, None)
                self._members.pop(fact.content, None)
            case Quarantined() | Released():
                self._held[fact.content] = sequence
            case Rejected(content=content) if content is not None:
                self._held.pop(content, None)
            case Published():
                self._available[fact.version] = sequence
            case Pruned():
                for version in fact.versions:
                    self._available.pop(version, None)
            case _:
                pass
