"""The curves: how far versions lie from the base and from each other, how newcomers stand to the merge, scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mergenode.adapters.http.page.charts import COLOURS, Chart, Line, drawn
from mergenode.adapters.http.page.markup import EMPTY, Markup, joined, section, tag
from mergenode.adapters.http.page.recent import Recent, figure, whole
from mergenode.adapters.http.page.wording import number, percent
from mergenode.adapters.observers.drift_instruments import distance
from mergenode.ledger.records import Fact, Folded, Mixed, Published, Restated


@dataclass(frozen=True, slots=True)
class Place:
    """Where a version lies: over the norm of the base, its distance from the base and from the version before it."""

    version: int
    time: str
    drift: float | None
    step: float | None


def places(recent: Recent) -> list[Place]:
    """Of the newest versions of the merge, oldest first. Distances as ``mergenode_version_step_ratio`` has them.

    Of a union the distances from the base alone: what entered between two versions is in the ledgers of other nodes.
    """
    if not recent.united:
        return _placed(recent.changes)
    base = _value(whole(recent.folds[-1]), "base_norm") if recent.folds else math.nan
    drifts = [(fact, _value(fact.scale, "update_norm") / (base or math.nan)) for fact in recent.versions]
    return [Place(fact.version, fact.time, _known(drift), None) for fact, drift in drifts]


def _placed(changes: Iterable[Fact]) -> list[Place]:
    found: list[Place] = []
    base = merge = math.nan
    shown = (math.nan, math.nan)
    entered: list[float] | None = None
    for fact in changes:
        match fact:
            case Folded():
                report = whole(fact)
                base, merge = _value(report, "base_norm"), _value(report, "merge_norm")
                if entered is not None:
                    entered.append(_value(report, "kept_norm"))
            case Restated():  # how far it went is not in the fact
                entered, merge = None, math.nan
            case Published(round=None):
                now = (_value(fact.scale, "update_norm"), merge)
                if fact.version == 1:
                    shown, entered = (0.0, 0.0), entered if entered is not None else []
                told = all(map(math.isfinite, (*shown, *now)))
                step = distance(shown, now, entered) if told else math.nan
                found.append(Place(fact.version, fact.time, _known(now[0] / (base or math.nan)),
                                   _known(step / (base or math.nan))))  # fmt: skip
                shown, entered = now, []
    return found


def drift_section(recent: Recent, located: Sequence[Place]) -> Markup:
    """Every curve for which there are figures."""
    charts = [*_of_versions(located), *_of_contributions(recent.folds), *_of_scores(recent),
              *_of_rounds(recent.rounds), *_of_selections(recent)]  # fmt: skip
    figures = [figure for figure in map(drawn, charts) if figure]
    if not figures:
        return section("drift", "Drift", tag("p", "Nothing was folded yet.", class_="none"))
    note = "Point at a curve for its values; the tables below have them, too."
    return section("drift", "Drift", tag("div", *figures, class_="charts"), note=note)


def _of_versions(located: Sequence[Place]) -> list[Chart]:
    if not located:
        return []
    first, last = f"v{located[0].version}", f"v{located[-1].version}"

    def line(name: str, pick: Callable[[Place], float | None]) -> list[Line]:
        words = [f"v{place.version}: {percent(pick(place))}, {place.time}" for place in located]
        return [Line(name, [pick(place) for place in located], words)]

    return [
        Chart("Distance from the base", line("distance", lambda place: place.drift), first, last, percent,
              "Of the newest versions, over the norm of the base. It should level off."),
        Chart("Step from version to version", line("step", lambda place: place.step), first, last, percent,
              "Over the norm of the base. One step several times the usual: one fold changed more than others."),
    ]  # fmt: skip


def _of_contributions(folds: Sequence[Folded]) -> list[Chart]:
    if not folds:
        return []
    first, last = f"no. {folds[0].count}", f"no. {folds[-1].count}"
    reports = [whole(fold) for fold in folds]

    def chart(title: str, values: list[float | None], show: Callable[[float | None], str], note: str) -> Chart:
        words = [f"{fold.name}: {show(value)}, {fold.time}" for fold, value in zip(folds, values, strict=True)]
        return Chart(title, [Line(title, values, words)], first, last, show, note)

    return [
        chart("Share kept of newcomers", [figure(report, "share_kept") for report in reports], percent,
              "What the merge kept of each contribution. Falling: little room is left, or contributions conflict."),
        chart("Newcomer against the merge", [figure(report, "cosine") for report in reports], number,
              "Cosine of each contribution with the merge before it. Below -0.1 it undoes what is there."),
        chart("Size of newcomers", [fold.relative_norm for fold in folds], percent,
              "Norm of each contribution over that of the base. Several times the usual: trained too hot."),
    ]  # fmt: skip


def _of_scores(recent: Recent) -> list[Chart]:
    """Scores of the merge where tasks are scored: when contributions are weighed, and in rounds."""
    measured: list[tuple[str, Mapping[str, float | None]]] = []
    for fold in recent.folds:
        tasks = fold.weighing.get("tasks") or {}
        measured.append((f"after {fold.name}", {task: figure(numbers, "after") for task, numbers in tasks.items()}))
    for mixed in recent.rounds:
        scores = mixed.scores.get("own" if mixed.kept_own else "mixed") or {}
        measured.append((f"round {mixed.number}", {task: figure(scores, task) for task in scores}))
    measured = [(words, scores) for words, scores in measured if scores]
    tasks = sorted({task for _, scores in measured for task in scores})
    if not tasks:
        return []
    lines = [
        Line(task, [scores.get(task) for _, scores in measured],
             [f"{task} {words}: {number(scores.get(task))}" for words, scores in measured])
        for task in tasks
    ]  # fmt: skip
    lines.sort(key=_fall, reverse=True)
    more = f" Of {len(tasks)} tasks those that fell most." if len(tasks) > COLOURS else ""
    title = "Task scores"
    note = f"Of the merge, each time it was measured.{more} A fall names the contribution that came in before it."
    return [Chart(title, lines[:COLOURS], measured[0][0], measured[-1][0], number, note, zero=False)]


def _of_rounds(rounds: Sequence[Mixed]) -> list[Chart]:
    if not rounds:
        return []
    values = [mixed.spread for mixed in rounds]
    words = [f"round {mixed.number}: {number(mixed.spread)}, {mixed.time}" for mixed in rounds]
    note = "Root mean square distance of the models of this node and its neighbours to their mean. It should not grow."
    ends = f"round {rounds[0].number}", f"round {rounds[-1].number}"
    return [Chart("Consensus distance", [Line("spread", values, words)], *ends, number, note)]


def _of_selections(recent: Recent) -> list[Chart]:
    if not recent.selections:
        return []
    values = [selected.gap for selected in recent.selections]
    words = [f"{selected.size} in the pool: {number(selected.gap)}, {selected.time}" for selected in recent.selections]
    note = "Of each selection, in units of the loss. Rising: raise selector.rounds."
    return [Chart("Gap of the selection", [Line("gap", values, words)], "earlier", "newest", number, note)]


def drift_words(located: Sequence[Place]) -> Markup:
    """The newest distance in few words, for the top of the page."""
    if not located or located[-1].drift is None:
        return EMPTY
    step = located[-1].step
    told = f" · last step {percent(step)}" if step is not None else ""
    return joined([percent(located[-1].drift), tag("small", f"of the base's norm{told}")])


def _fall(line: Line) -> float:
    known = [value for value in line.values if value is not None]
    return max(known) - known[-1] if known else 0.0


def _value(report: Mapping[str, object], name: str) -> float:
    value = figure(report, name)
    return math.nan if value is None else value


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
