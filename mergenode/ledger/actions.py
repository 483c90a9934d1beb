"""What the daemon can be told to do next: a closed union, each member a value."""

from __future__ import annotations

from dataclasses import dataclass

from mergenode.ledger.changes import Change
from mergenode.types import Candidate, Digest, Refused


@dataclass(frozen=True, slots=True)
class Discover:
    """Record ``discovered`` for these candidates, in this order, in one append."""

    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Refuse:
    """Record ``rejected`` for these entries, whose listing alone shows that they cannot be accepted."""

    refused: tuple[Refused, ...]


@dataclass(frozen=True, slots=True)
class MarkDuplicate:
    """Record ``duplicate``: the marker promises content that was folded as ``same_as``. Nothing is read."""

    candidate: Candidate
    content: Digest
    same_as: str


@dataclass(frozen=True, slots=True)
class Fold:
    """Validate and fold: ends in ``folded``, ``duplicate``, ``rejected`` or a transient failure."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Restate:
    """Take contributions out of the merge: ends in ``retracted`` and ``restated``, or is refused."""

    change: Change


@dataclass(frozen=True, slots=True)
class Index:
    """Read this candidate of the pool once and remember what it holds; ends in ``rejected`` where it cannot be used."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Select:
    """Choose of the pool what serves the objective: ends in ``selected``."""


@dataclass(frozen=True, slots=True)
class Deselect:
    """Take out what the newest selection weighs otherwise: ends in ``deselected`` and ``restated``."""

    contents: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Evict:
    """The pool is above its limit: evaluate one content that was not yet, or record ``rejected`` for who leaves."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Do what the exchange with other nodes asks for next; ``step`` is the mixer's own affair."""

    step: object


@dataclass(frozen=True, slots=True)
class Publish:
    """Make the committed ``generation`` visible as ``version``."""

    generation: int
    version: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do for ``seconds`` (> 0), unless a hint arrives earlier."""

    seconds: float
    why: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End the loop. ``complete`` is False when something known was left undone; ``why`` names it."""

    why: str
    complete: bool = True


Action = (
    Discover | Refuse | MarkDuplicate | Fold | Restate | Index | Select | Deselect | Evict | Mix | Publish | Wait | Stop
)
