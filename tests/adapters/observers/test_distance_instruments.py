"""How far versions are from those of ten folds and of a day ago."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from mergenode.adapters.observers.bounded_labels import FirstLabels
from mergenode.adapters.observers.distance_instruments import DistanceInstruments
from mergenode.ledger.records import Folded, Published, Restated
from tests.support.observed import TIME, content, folded, group, published

BASE = 10.0
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def fold(number: int) -> Folded:
    """Every step has norm 1 and is orthogonal to those before; so is its half in each of two groups."""
    half, total = math.sqrt(0.5), math.sqrt(number)
    groups = (
        group("*", kept_norm=1.0, merge_norm=total, base_norm=BASE),
        *(group(name, kept_norm=half, merge_norm=half * total, base_norm=BASE / 2) for name in ("a", "b")),
    )
    return folded(number, groups=groups)


def version(number: int, hours: float) -> Published:
    """Scale one: the update is the sum."""
    time = (START + timedelta(hours=hours)).isoformat()
    return published(number, generation=number, time=time, scale={"update_norm": math.sqrt(number)})


def told(registry: CollectorRegistry, since: str, **group: str) -> float | None:
    name = "mergenode_group_distance_ratio" if group else "mergenode_distance_ratio"
    return registry.get_sample_value(name, {"since": since, **group})


def test_ten_folds_and_a_day(registry: CollectorRegistry) -> None:
    distances = DistanceInstruments(registry, FirstLabels(4))
    for number in range(1, 21):
        distances.fact(fold(number))
        distances.fact(version(number, 6.0 * number))
        known = told(registry, "folds") or 0.0
        assert math.isnan(known) == (number <= 10), number
    assert told(registry, "folds") == pytest.approx(math.sqrt(10) / BASE)
    assert told(registry, "day") == pytest.approx(math.sqrt(4) / BASE)
    assert told(registry, "folds", group="a") == pytest.approx(math.sqrt(5) / (BASE / 2))
    assert told(registry, "day", group="b") == pytest.approx(math.sqrt(2) / (BASE / 2))


def test_a_start_in_the_middle_knows_what_came_since(registry: CollectorRegistry) -> None:
    distances = DistanceInstruments(registry, FirstLabels(4))
    for number in range(30, 42):
        distances.fact(fold(number))
        distances.fact(version(number, number))
    assert told(registry, "folds") == pytest.approx(math.sqrt(10) / BASE)


def test_across_a_retraction_nothing_is_known(registry: CollectorRegistry) -> None:
    distances = DistanceInstruments(registry, FirstLabels(4))
    for number in range(1, 9):
        distances.fact(fold(number))
        distances.fact(version(number, number))
    distances.fact(
        Restated(
            time=TIME, generation=9, count=7, totals={}, statistics=content(1), lineage=content(2), how="subtracted"
        )
    )
    for number in range(10, 25):
        distances.fact(fold(number))
        distances.fact(version(number, number))
        assert math.isnan(told(registry, "folds") or 0.0) == (number < 20), number


def test_groups_beyond_the_bound_are_added_up_and_rounds_are_left_out(registry: CollectorRegistry) -> None:
    distances = DistanceInstruments(registry, FirstLabels(1))
    for number in range(1, 12):
        distances.fact(fold(number))
        distances.fact(version(number, number))
    assert told(registry, "folds", group="other") == pytest.approx(math.sqrt(5) / (BASE / 2))
    assert told(registry, "folds", group="b") is None
    distances.fact(published(12, round=1, time=START.isoformat(), scale={"update_norm": 9.0}))
    assert told(registry, "folds") == pytest.approx(math.sqrt(10) / BASE)
