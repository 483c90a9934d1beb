"""What gauges say after contributions left the merge, and that a restart shows the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from mergenode.adapters.observers.prometheus import PrometheusObserver
from mergenode.adapters.observers.remembered import facts_to_restore
from mergenode.ledger.records import Fact, Folded, Left, Restated, Retracted
from tests.support.facts import deselected
from tests.support.observed import HandClock, ListLedger, content, folded, group, published

LAYERS = ("layers.0", "layers.1")
OF_THE_NEWEST = (
    "contribution_relative_norm", "share_kept", "group_share_kept", "newcomer_cosine", "group_newcomer_cosine",
    "group_newcomer_relative_norm",
    "effective_rank", "sign_conflict",
)  # fmt: skip
"""Told of the last fold: NaN when that left."""

OF_THE_GROUPS = ("group_merge_norm", "group_relative_norm")


def fold(number: int, size: float = 1.0, cosine: float = 0.5, **values: object) -> Folded:
    told = {"cosine": cosine, "share_kept": 0.1, "effective_rank": 3.0, "capacity_taken": 0.2, "sign_conflict": 0.4}
    wobble = size * (1 + 0.02 * math.sin(number))
    groups = [group(name, **{**told, "delta_norm": wobble}) for name in LAYERS]
    whole = group("*", **{**told, "delta_norm": wobble * math.sqrt(2)})
    return folded(number, groups=(whole, *groups), relative_norm=0.6, **values)


def left(*numbers: int) -> list[Left]:
    return [
        Retracted(time="2026-01-02T03:04:05Z", registry="inbox", name=f"team-{n}", revision="r1", content=content(n))
        for n in numbers
    ]


def restated(generation: int, count: int, **totals: float) -> Restated:
    return Restated(
        time="2026-01-02T03:04:05Z", generation=generation, count=count, totals=totals,
        statistics=content(9), lineage=None, how="subtracted",
    )  # fmt: skip


def running(story: Sequence[Fact]) -> CollectorRegistry:
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry, ["inbox"], HandClock())
    for fact in story:
        observer.fact(fact)
    return registry


def restarted(story: Sequence[Fact]) -> CollectorRegistry:
    registry = CollectorRegistry()
    PrometheusObserver(registry, ["inbox"], HandClock()).restore(facts_to_restore(ListLedger(list(story))))
    return registry


def values(registry: CollectorRegistry, *names: str) -> list[float]:
    """Of gauges by name, of all their series."""
    return [
        sample.value
        for family in registry.collect()
        if family.name.removeprefix("mergenode_") in names
        for sample in family.samples
    ]


def gauges(registry: CollectorRegistry) -> dict[str, float | str]:
    """Everything that is no counter and not of the process."""
    return {
        f"{sample.name}{sample.labels}": "NaN" if math.isnan(sample.value) else sample.value
        for family in registry.collect()
        if family.type == "gauge" and not family.name.startswith("process_")
        for sample in family.samples
    }


BAD = [*map(fold, range(1, 6)), published(1), fold(6, size=9.0, cosine=-0.9), published(2, generation=6)]
"""Five that agree, then one that is huge, hardly kept, and against the merge in every layer."""


def test_alerts_on_the_newest_clear_when_it_is_taken_out() -> None:
    before = running(BAD)
    assert values(before, "newcomer_cosine") == [-0.9] and values(before, "contribution_relative_norm") == [0.6]
    after = running([*BAD, *left(6), restated(7, 5, merge_sq=4.0)])
    found = values(after, *OF_THE_NEWEST, *OF_THE_GROUPS)
    assert len(found) == 5 + 5 * len(LAYERS) and all(map(math.isnan, found)), "no comparison of an alert holds for NaN"
    assert values(after, "merge_norm", "merge_relative_norm") == [2.0, 2.0 / 30], "known"
    assert values(after, "newest_fold_generation") == [6], "the ledger still tells of it"


def test_an_alert_on_the_newest_stays_when_another_one_is_taken_out() -> None:
    after = running([*BAD, *left(2), restated(7, 5, merge_sq=4.0)])
    assert values(after, "newcomer_cosine") == [-0.9] and values(after, "group_newcomer_cosine") == [-0.9] * 2
    assert values(after, "contribution_relative_norm", "share_kept") == [0.6, 0.1]
    assert all(map(math.isnan, values(after, *OF_THE_GROUPS))), "the merge is another one"


def test_of_a_merge_without_anything_everything_is_known() -> None:
    after = running([*BAD, *left(*range(1, 7)), restated(7, 0)])
    assert set(values(after, "merge_norm", "merge_relative_norm", *OF_THE_GROUPS)) == {0.0}


def test_the_next_fold_tells_everything_again() -> None:
    after = running([*BAD, *left(6), restated(7, 5, merge_sq=4.0), fold(8)])
    assert values(after, *OF_THE_NEWEST, *OF_THE_GROUPS, "capacity_taken") == values(
        running([fold(8)]), *OF_THE_NEWEST, *OF_THE_GROUPS, "capacity_taken"
    )


DRIFTING = [
    *(fold(number) for number in range(1, 21)),
    *(fold(number, 1.1 ** (number - 20)) for number in range(21, 31)),
]
DRIFTED = tuple(range(21, 31))


def test_what_shifted_slowly_is_forgotten_when_it_is_taken_out() -> None:
    assert min(values(running(DRIFTING), "group_newcomer_norm_shift", "newcomer_norm_shift")) > 2
    after = running([*DRIFTING, *left(*DRIFTED), restated(31, 20, merge_sq=4.0)])
    others = running(DRIFTING[:20])
    names = ("group_newcomer_norm_shift", "newcomer_norm_shift")
    assert values(after, *names) == values(others, *names)
    later = [fold(number) for number in range(32, 36)]
    assert values(running([*DRIFTING, *left(*DRIFTED), restated(31, 20), *later]), *names) == values(
        running([*DRIFTING[:20], *later]), *names
    ), "as if it had never come"


def test_a_version_after_a_retraction_is_not_measured_as_the_merge_before() -> None:
    story = [fold(number) for number in range(1, 12)]
    versions = [fact for each in story for fact in (each, published(each.generation, generation=each.generation))]
    gone = [*left(11), restated(12, 10, merge_sq=4.0), published(12, generation=12)]
    assert all(map(math.isfinite, values(running(versions), "version_step_ratio")))
    after = running([*versions, *gone])
    assert all(map(math.isnan, values(after, "version_step_ratio", "distance_ratio", "group_distance_ratio")))


REWEIGHED = [
    deselected(6, registry="inbox", name="team-6", content=content(6)), restated(7, 5, merge_sq=4.0),
    replace(fold(8), content=content(6), weight=0.5), published(3, generation=8),
]  # fmt: skip

STORIES: dict[str, list[Fact]] = {
    "nothing left": BAD,
    "the newest left": [*BAD, *left(6), restated(7, 5, merge_sq=4.0)],
    "the newest left, published": [*BAD, *left(6), restated(7, 5, merge_sq=4.0), published(3, generation=7)],
    "another one left": [*BAD, *left(2), restated(7, 5, merge_sq=4.0)],
    "all left": [*BAD, *left(1, 2, 3, 4, 5, 6), restated(7, 0), published(3, generation=7)],
    "left twice": [
        *BAD, *left(6), restated(7, 5, merge_sq=4.0), published(3, generation=7), *left(5),
        restated(8, 4, merge_sq=3.0),
    ],
    "left, then another one": [*BAD, *left(6), restated(7, 5, merge_sq=4.0), fold(8), published(3, generation=8)],
    "a rollback of a slow shift": [*DRIFTING, *left(*DRIFTED), restated(31, 20, merge_sq=4.0)],
    "a rollback, and more": [*DRIFTING, *left(*DRIFTED), restated(31, 20), *(fold(n) for n in range(32, 38))],
    "weighed otherwise": [*BAD, *REWEIGHED],
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
def test_a_restart_shows_what_the_running_node_shows(story: list[Fact]) -> None:
    seen, again = gauges(running(story)), gauges(restarted(story))
    step = "mergenode_version_step_ratio{}"
    assert again.pop(step) in (seen.pop(step), "NaN"), "what was before the newest version is not always restored"
    assert again == {name: pytest.approx(value) if isinstance(value, float) else value for name, value in seen.items()}
