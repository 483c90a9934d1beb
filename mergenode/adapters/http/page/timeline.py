"""Versions as a timeline: what came in with each, what left, how far it moved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mergenode.adapters.http.page.drift import Place
from mergenode.adapters.http.page.markup import EMPTY, Markup, joined, more, section, tag
from mergenode.adapters.http.page.recent import SHOWN, Recent, figure, whole
from mergenode.adapters.http.page.wording import moment, number, percent
from mergenode.ledger.records import (
    Admitted,
    Deselected,
    Folded,
    Left,
    Member,
    Mixed,
    Published,
    Restated,
    Retracted,
    United,
    Yielded,
)

OPEN = 8
"""Versions that are unfolded; the others are one touch away."""
NAMED = 12
"""Contributions that are named per version."""


@dataclass(slots=True)
class Step:
    """What changed up to a version; without a version, what waits to be published."""

    version: Published | None = None
    came: list[Member] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    restated: list[Restated] = field(default_factory=list)
    complete: bool = True
    """False: there were changes before those that are known."""

    @property
    def empty(self) -> bool:
        return not (self.came or self.left or self.restated)


def steps(recent: Recent) -> list[Step]:
    """Newest first. A step holds what the ledger has between two versions."""
    found = [Step(complete=not recent.cut)]
    for fact in recent.changes:
        match fact:
            case Folded() | Admitted():
                found[-1].came.append(fact)
            case Left():
                found[-1].left.append(fact)
            case Restated():
                found[-1].restated.append(fact)
            case Published():
                found[-1].version = fact
                found.append(Step())
    if recent.united:
        return [Step(fact, complete=True) for fact in reversed(recent.versions)]
    return [step for step in reversed(found) if step.version is not None or not step.empty]


def timeline_section(recent: Recent, located: Sequence[Place]) -> Markup:
    """The newest versions, and before them what is not published yet."""
    told = steps(recent)[:SHOWN]
    if not told:
        return section("versions", "Versions", tag("p", "No version was published yet.", class_="none"))
    where = {place.version: place for place in located}
    entries = [_entry(step, recent, where) for step in told]
    older = more(f"{len(entries) - OPEN} earlier", _list(entries[OPEN:])) if len(entries) > OPEN else EMPTY
    note = joined([
        "Newest first, with what came in and what left. Everything about one: ", tag("code", "mergenode show 12"),
        ". Back to one: ", tag("code", "mergenode rollback 12"), ".",
    ])  # fmt: skip
    return section("versions", "Versions", _list(entries[:OPEN]), older, note=note)


def _list(entries: Iterable[Markup]) -> Markup:
    return tag("ol", *entries, class_="timeline")


def _entry(step: Step, recent: Recent, where: Mapping[int, Place]) -> Markup:
    head = [_heading(step, recent), *_measures(step, where.get(step.version.version) if step.version else None)]
    parts = [tag("p", _restatement(fact), class_="how") for fact in step.restated]
    parts += [_names([_came(fact) for fact in reversed(step.came)], "came")]
    parts += [_names([_left(fact) for fact in reversed(step.left)], "left")]
    if not step.complete:
        parts.append(tag("p", "and what came before, which is in the history", class_="note"))
    if step.version is not None:
        parts.append(_sources(step.version, recent))
    return tag("li", tag("div", *head), tag("div", *parts), class_=None if step.version else "waiting")


def _heading(step: Step, recent: Recent) -> Markup:
    if step.version is None:
        return tag("h3", "not published yet")
    version = step.version
    badges = []
    if version.version == recent.head.version:
        badges.append(tag("span", "latest", class_="badge good"))
    if version.version in recent.pruned:
        badges.append(tag("span", "files removed", class_="badge"))
    return tag("h3", tag("span", f"v{version.version}", title=version.path), *badges, moment(version.time),
               id=f"v{version.version}")  # fmt: skip


def _measures(step: Step, place: Place | None) -> list[Markup]:
    said = []
    if place is not None and place.drift is not None:
        said.append(f"{percent(place.drift)} from the base")
    if place is not None and place.step is not None:
        said.append(f"step {percent(place.step)}")
    if step.version is not None and (used := figure(step.version.scale, "used")) is not None:
        said.append(f"scale {used:.3g}")
    return [tag("p", " · ".join(said), class_="measures")] if said else []


def _names(entries: Sequence[Markup], look: str) -> Markup:
    if not entries:
        return EMPTY
    rest = len(entries) - NAMED
    tail = [tag("li", f"and {rest} more")] if rest > 0 else []
    return tag("ul", *entries[:NAMED], *tail, class_=f"names {look}")


def _came(fact: Member) -> Markup:
    figures = ""
    if isinstance(fact, Folded):
        report = whole(fact)
        kept, cosine = figure(report, "share_kept"), figure(report, "cosine")
        told = [f"kept {percent(kept)}"] if kept is not None else []
        told += [f"cosine {number(cosine, 2)}"] if cosine is not None else []
        told += [f"weight {fact.weight:g}"] if fact.weight != 1.0 else []
        figures = ", ".join(told)
    else:
        figures = "from the state of another node"
    return tag("li", tag("b", fact.name), f" {figures}" if figures else "")


def _left(fact: Left) -> Markup:
    match fact:
        case Retracted():
            why = "retracted" + (f": {fact.why}" if fact.why else "")
        case Yielded():
            why = f"node {fact.keeper[:8]} counts it"
        case Deselected():
            why = "selected with another weight, or none"
        case _:
            why = "left"
    return tag("li", tag("b", fact.name), f" {why}")


def _restatement(fact: Restated) -> str:
    if fact.rollback_to is not None:
        return f"rolled back to v{fact.rollback_to}"
    said = {"subtracted": "what left was subtracted", "replayed": "computed again without what left",
            "combined": "combined with the state of another node"}  # fmt: skip
    return said.get(fact.how, fact.how)


def _sources(version: Published, recent: Recent) -> Markup:
    """Of the model of a round, or of a union: the nodes that it is made of."""
    if version.round is not None:
        return joined(_of_round(mixed) for mixed in recent.rounds if mixed.number == version.round)
    return joined(_of_union(fact) for fact in recent.united if fact.generation == version.generation)


def _of_round(mixed: Mixed) -> Markup:
    parts = [tag("li", tag("b", str(each.get("node", ""))[:8]), f" weight {number(figure(each, 'weight'))}")
             for each in mixed.parents]  # fmt: skip
    own = tag("li", tag("b", "own"), f" weight {number(mixed.own_weight)}")
    return _names([own, *parts], "came")


def _of_union(fact: United) -> Markup:
    return _names(
        [tag("li", tag("b", str(part.get("node", ""))[:8]), f" {part.get('count', 0)} contributions")
         for part in fact.parts], "came",
    )  # fmt: skip
