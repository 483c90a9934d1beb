"""What came first: the alert that names a bad contribution, or the fall of a score."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.drift.judging import Alarm, alarms, firing, held, published
from benchmarks.drift.plan import HONEST, SLOW, SLOW_TWIN, Story
from benchmarks.drift.running import Step

FALL = 0.02
"""Two points, on 540 test digits."""

GATES_SPEAK = "MergenodeGateSpoke"
"""False when a gate's own limit is: that is counted by itself."""

Played = Mapping[Story, Sequence[Step]]


def summarise(played: Played) -> dict[str, Any]:
    """JSON values: one row per story with bad contributions, and what fires in those without."""
    return {
        "bad": [_bad(story, played) for story in played if story.kind not in (HONEST, SLOW_TWIN)],
        "honest": [_honest(story, steps) for story, steps in played.items() if story.kind in (HONEST, SLOW_TWIN)],
        "distance": _distances(played),
    }


def falls(story: Story, played: Played) -> list[float]:
    """After every fold, how far the worst score is below that of the same stream without the bad contributions.

    The other stream at the same number of honest contributions; of a slow drift, which has no honest folds between, the
    same folds undisturbed.
    """
    steps, honest = played[story], 0
    twin = played[Story(SLOW_TWIN if story.kind == SLOW else HONEST, story.seed)]
    found = []
    for number, step in enumerate(steps):
        honest += step.kind == HONEST
        other = twin[number if story.kind == SLOW else honest - 1].scores
        found.append(max(other[task] - step.scores[task] for task in step.scores))
    return found


def _bad(story: Story, played: Played) -> dict[str, Any]:
    steps = played[story]
    first_bad = next(number for number, step in enumerate(steps) if step.kind != HONEST)
    fell = falls(story, played)
    first_fall = next((number for number, fall in enumerate(fell) if number >= first_bad and fall >= FALL), None)
    spoken = firing(steps)
    anyway = [set[str]() for _ in spoken]
    if story.kind == SLOW:  # the same folds without what is wrong with them
        anyway = [set(names) for names in firing(played[Story(SLOW_TWIN, story.seed)])]
    before = {alert for names in spoken[: held(first_bad)] for alert in names}
    wanted = [
        (moment, alert)
        for moment, names in enumerate(spoken)
        for alert in names
        if moment >= held(first_bad) and alert not in anyway[moment]
    ]
    told = [alarm for alarm in _first_of_each(steps, wanted) if alarm.alert not in before]
    right = [alarm for alarm in told if _named(steps, alarm) == story.kind]
    first = min((alarm.moment for alarm in right), default=None)
    return {
        "kind": story.kind, "seed": story.seed, "first_bad": first_bad,
        "first_alert": None if first is None else first // 2,
        "before_its_version": first is not None and first % 2 == 0,
        "in_time": first is not None and (first_fall is None or first < published(first_fall)),
        "first_fall": first_fall, "deepest": max(fell),
        "alerts": [
            {"fold": alarm.step, "held": alarm.moment == held(alarm.step), "alert": alarm.alert,
             "summary": alarm.summary, "description": alarm.description,
             "labels": dict(alarm.labels), "names": _named(steps, alarm)}
            for alarm in told
        ],
        "falls": fell, "firing": spoken,
    }  # fmt: skip


def _first_of_each(steps: Sequence[Step], wanted: Sequence[tuple[int, str]]) -> list[Alarm]:
    first: dict[str, int] = {}
    for moment, alert in wanted:
        first.setdefault(alert, moment)
    return alarms(steps, [(moment, alert) for alert, moment in first.items()])


def _named(steps: Sequence[Step], alarm: Alarm) -> str:
    """The kind of the contribution whose generation the alert tells."""
    told = re.search(r"mergenode show --generation (\d+)`", alarm.description)
    kinds = {step.facts["generation"]: step.kind for step in steps}
    return kinds.get(int(told[1]), "nobody") if told else "nobody"


def _honest(story: Story, steps: Sequence[Step]) -> dict[str, Any]:
    spoken = firing(steps)
    return {
        "kind": story.kind, "seed": story.seed, "folds": len(steps), "firing": spoken,
        "false_alarms": sorted({alert for names in spoken for alert in names}),
        "gates": sorted({f"{step.name}: {found['gate']}" for step in steps for found in step.facts["findings"]}),
        "shift": max(_shift(step) for step in steps),
    }  # fmt: skip


def _shift(step: Step) -> float:
    """The largest shift of a layer group, either way."""
    shifts = [abs(value) for name, value in step.series.items() if name.startswith("mergenode_group_newcomer_norm_sh")]
    return max((value for value in shifts if value == value), default=0.0)


def _distances(played: Played) -> dict[str, float]:
    """The distance from ten folds ago that norms tell, over the one measured on the weights."""
    ratios = sorted(
        step.series['mergenode_distance_ratio{since="folds"}'] / step.moved
        for steps in played.values()
        for step in steps
        if step.moved
    )
    known = [ratio for ratio in ratios if ratio == ratio]
    return {"lowest": known[0], "median": known[len(known) // 2], "highest": known[-1], "of": float(len(known))}


def table(summary: Mapping[str, Any]) -> str:
    """The rows of the README, one per kind."""
    lines = [
        "| injected | first alert that names it | folds from the first bad one to alert, to fall | deepest fall |",
        "|---|---|---|---|",
    ]
    for kind in dict.fromkeys(row["kind"] for row in summary["bad"]):
        rows = [row for row in summary["bad"] if row["kind"] == kind]
        names = sorted({
            alert["alert"].removeprefix("Mergenode")
            for row in rows for alert in row["alerts"] if alert["fold"] == row["first_alert"]
        })  # fmt: skip
        when = "; ".join(f"{_alert(row)}, {_after(row, 'first_fall')}" for row in rows)
        deepest = ", ".join(f"{100 * row['deepest']:.1f}" for row in rows)
        lines.append(f"| {kind} | {', '.join(names)} | {when} | {deepest} |")
    return "\n".join(lines)


def _alert(row: Mapping[str, Any]) -> str:
    return _after(row, "first_alert") + (" (held)" if row["before_its_version"] else "")


def _after(row: Mapping[str, Any], what: str) -> str:
    return "never" if row[what] is None else str(row[what] - row["first_bad"])


def broken(summary: Mapping[str, Any]) -> list[str]:
    """What the README promises and is not so: an alert comes before the version with which a score falls."""
    wrong = []
    for row in summary["bad"]:
        if not row["in_time"]:
            wrong.append(f"{row['kind']}, seed {row['seed']}: alert {row['first_alert']}, fall {row['first_fall']}")
    for row in summary["honest"]:
        rules = [alert for alert in row["false_alarms"] if alert != GATES_SPEAK]
        if rules:
            wrong.append(f"{row['kind']}, seed {row['seed']}: false alarms {rules}")
    return wrong
