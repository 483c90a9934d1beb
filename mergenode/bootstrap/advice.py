"""``mergenode advise``, composed: a node's own contributions, its base, and the figures of the quality benchmark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from mergenode.adapters.store.generations import FolderGenerations
from mergenode.bootstrap.parts import engine_of
from mergenode.bootstrap.planning import statistics_bytes
from mergenode.ledger.records import Folded, Member
from mergenode.methods import build_method
from mergenode.methods.advice import Choice, Measured, Ranked, Situation, Wishes, nearest_setting, rank
from mergenode.ports.ledger_store import LedgerReader
from mergenode.ports.observer import Observer
from mergenode.settings import Settings

FIGURES = "measured.json"
"""What the quality benchmark found, as it wrote it; see benchmarks/quality."""

LOOKED_AT = 1000
"""The newest contributions that a node is described by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What is known of the contributions of a node; None where nothing was folded."""

    method: str
    contributions: int
    adapters: int
    relative_norm: float | None
    cosine: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The methods in the order in which they are advised. ``setting``, ``count``: where they were measured."""

    node: NodeFacts
    setting: str
    count: int
    ranked: tuple[Ranked, ...]


def advise_node(
    settings: Settings, reader: LedgerReader | None, observer: Observer, wishes: Wishes, expected: int | None
) -> Advice:
    """Compare all measured methods for this node. ``reader``: its ledger, None when it has never run; ``expected``: the
    number of contributions to reckon with, None for those it has.

    Raises FatalError when the base cannot be read.
    """
    node = facts_of(settings, reader)
    figures, counts, norms = measured()
    situation = Situation(count=expected or node.contributions, relative_norm=node.relative_norm)
    setting, count = nearest_setting(situation, counts, norms)
    here = [figure for figure in figures if (figure.setting, figure.count) == (setting, count)]
    ranked = rank(choices(settings, observer, here), here, wishes)
    return Advice(node=node, setting=setting, count=count, ranked=tuple(ranked))


def facts_of(settings: Settings, reader: LedgerReader | None) -> NodeFacts:
    """What the ledger tells about the contributions in the merge."""
    members: Sequence[Member] = []
    method: str = settings.method.name
    count = 0
    if reader is not None:
        members = [member for _, member in reader.newest_members(LOOKED_AT)]
        count = reader.head().count
        origin = reader.initialised()
        method = origin.method if origin else method
    cosines = [
        float(member.groups[0]["cosine"])
        for member in members
        if isinstance(member, Folded) and member.groups and member.groups[0].get("cosine") is not None
    ]
    return NodeFacts(
        method=method,
        contributions=count,
        adapters=sum(member.contribution_kind == "adapter" for member in members),
        relative_norm=fmean(member.relative_norm for member in members) if members else None,
        cosine=fmean(cosines) if cosines else None,
    )


def measured() -> tuple[list[Measured], Mapping[str, Sequence[int]], Mapping[str, float]]:
    """Figures, numbers of contributions per setting, and mean relative norms per setting."""
    document: dict[str, Any] = json.loads(files(__package__).joinpath(FIGURES).read_bytes())
    figures = [
        Measured(row["method"], row["options"], setting, int(count), found["kept"], found["error"])
        for setting, told in document["settings"].items()
        for row in told["rows"]
        for count, found in row["sizes"].items()
    ]
    counts = {
        setting: sorted({figure.count for figure in figures if figure.setting == setting})
        for setting in document["settings"]
    }
    return figures, counts, {setting: told["relative_norm"] for setting, told in document["settings"].items()}


def choices(settings: Settings, observer: Observer, figures: Sequence[Measured]) -> list[Choice]:
    """What each measured method would take and can do for the base of these settings."""
    found = []
    with TemporaryDirectory(prefix="mergenode-advise-") as scratch:
        engine = engine_of(settings, FolderGenerations(Path(scratch)), observer)
        for figure in figures:
            method = build_method(figure.method, figure.options)
            found.append(
                Choice(
                    method=figure.method,
                    options=figure.options,
                    statistics=statistics_bytes(engine.base, method),
                    memory=replace(engine, method=method).least_memory(),
                    subtracts=method.retractable,
                    combines=method.combinable,
                    needs=method.needs,
                )
            )
    return found
