"""Where a node stands in its rounds: what has to survive a crash, as a value and as text.

The facts of finished rounds are in the ledger; this is about the one that is under way. Weights are files, named here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from mergenode.errors import FatalError
from mergenode.ledger.canonical import canonical, parse

SCHEMA = "mergenode.round/1"


class Phase(StrEnum):
    """What is to be done next. Each phase ends with the state of the next one on disk."""

    TRAIN = "train"
    OFFER = "offer"
    COLLECT = "collect"
    ADMIT = "admit"
    MIX = "mix"
    GUARD = "guard"
    COMMIT = "commit"
    REST = "rest"
    """All rounds that were asked for are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A head that was chosen, and the file in which its weights are kept. ``node`` and ``root``: hexadecimal.

    The rest is known after admission: ``weight`` is its share in the mix, ``distance`` that of its (matched) model to
    the own one, ``clipped`` the factor by which its difference was cut short (1: not at all).
    """

    node: str
    root: str
    epoch: int
    file: str
    degree: int | None = None
    weight: float = 0.0
    distance: float | None = None
    cosine: float | None = None
    clipped: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A model that did not get into the mix: ``code`` as in ``docs/dimat.md``."""

    node: str
    root: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundState:
    """``number`` counts this node's rounds, ``epoch`` is what the neighbours agree upon.

    ``start``, ``trained``, ``mixed``: names of files. ``parents``: what went into ``start``, by node, with root and
    share. ``arrivals`` and ``distances``: of earlier rounds, newest last. ``recipe``: how the chosen are mixed.
    """

    number: int = 0
    epoch: int = 0
    phase: Phase = Phase.TRAIN
    start: str
    trained: str = ""
    mixed: str = ""
    root: str = ""
    degree: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    training_failed: str = ""
    parents: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    taken: tuple[Taken, ...] = ()
    refused: tuple[Refusal, ...] = ()
    missing: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    ahead: int = 0
    recipe: Mapping[str, Any] = field(default_factory=dict)
    spread: float | None = None
    update: float | None = None
    kept_own: bool = False
    scores: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    arrivals: tuple[float, ...] = ()
    distances: tuple[float, ...] = ()


def state_text(state: RoundState) -> str:
    """Canonical JSON."""
    return canonical({"schema": SCHEMA, **asdict(state)})


def parse_state(text: str, where: str) -> RoundState:
    """What ``state_text`` wrote. Raises FatalError: it is something else, or of a newer mergenode."""
    try:
        values = parse(text)
        if not isinstance(values, dict) or values.pop("schema", None) != SCHEMA:
            raise ValueError(f"not {SCHEMA}")
        known = {each.name for each in fields(RoundState)}
        if unknown := sorted(values.keys() - known):
            raise ValueError(f"unknown field {unknown[0]!r}")
        for name in ("missing", "stale", "arrivals", "distances"):
            values[name] = tuple(values[name])
        values["phase"] = Phase(values["phase"])
        values["taken"] = tuple(Taken(**entry) for entry in values["taken"])
        values["refused"] = tuple(Refusal(**entry) for entry in values["refused"])
        values["parents"] = {node: (root, float(weight)) for node, (root, weight) in values["parents"].items()}
        return RoundState(**values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FatalError(
            f"{where}: cannot be read: {error}",
            hint="If a newer mergenode wrote it, install that one. Without the file the node begins from its newest "
            "version: remove the directory of the rounds only if the other nodes may give it everything.",
        ) from error
