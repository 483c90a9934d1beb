"""What metrics say of drift, against vectors whose distances are known."""

from __future__ import annotations

import math
import random

import pytest
from prometheus_client import CollectorRegistry

from mergenode.adapters.observers.bounded_labels import FirstLabels
from mergenode.adapters.observers.drift_instruments import MAX_TASKS, DriftInstruments
from mergenode.ledger.records import Folded, Published, Restated
from tests.support.facts import mixed
from tests.support.observed import TIME, content, folded, group, published

BASE = 30.0


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def drift(registry: CollectorRegistry) -> DriftInstruments:
    return DriftInstruments(registry, FirstLabels(2))


def number(registry: CollectorRegistry, name: str, **labels: str) -> float:
    found = registry.get_sample_value(f"mergenode_{name}", labels)
    assert found is not None, name
    return found


def norm(vector: list[float]) -> float:
    return math.hypot(*vector)


def apart(one: list[float], other: list[float]) -> float:
    return norm([a - b for a, b in zip(one, other, strict=True)])


class Story:
    """Versions that are multiples of a running sum, as facts and as vectors."""

    def __init__(self) -> None:
        self.random = random.Random(7)
        self.total, self.shown, self.count = [0.0] * 5, [0.0] * 5, 0

    def fold(self) -> Folded:
        new = [self.random.gauss(0, 1) for _ in self.total]
        self.total = [a + b for a, b in zip(self.total, new, strict=True)]
        self.count += 1
        whole = group("*", kept_norm=norm(new), merge_norm=norm(self.total), base_norm=BASE, cosine=-0.25)
        return folded(self.count, groups=(whole,))

    def publish(self) -> tuple[Published, float]:
        """The fact, and how far the version is from the one before."""
        factor = 1 / math.sqrt(self.count)
        before, self.shown = self.shown, [factor * entry for entry in self.total]
        return published(self.count, scale={"update_norm": norm(self.shown)}), apart(self.shown, before)


def test_versions_are_as_far_apart_as_their_vectors(registry: CollectorRegistry, drift: DriftInstruments) -> None:
    story, path = Story(), 0.0
    for _ in range(12):
        drift.fact(story.fold())
        fact, step = story.publish()
        drift.fact(fact)
        path += step
        assert number(registry, "version_step_ratio") == pytest.approx(step / BASE)
        assert number(registry, "drift_ratio") == pytest.approx(norm(story.shown) / BASE)
    assert number(registry, "drift_path_total") == pytest.approx(path / BASE)
    assert number(registry, "newcomer_cosine") == -0.25 and number(registry, "base_norm") == BASE


def test_several_folds_in_one_version_give_an_upper_bound(registry: CollectorRegistry, drift: DriftInstruments) -> None:
    story = Story()
    for _ in range(6):
        for _ in range(3):
            drift.fact(story.fold())
        fact, step = story.publish()
        drift.fact(fact)
        assert number(registry, "version_step_ratio") >= step / BASE - 1e-12


def test_what_facts_do_not_tell_is_nan_and_does_not_count(registry: CollectorRegistry, drift: DriftInstruments) -> None:
    story = Story()
    drift.fact(story.fold())
    drift.fact(story.publish()[0])
    before = number(registry, "drift_path_total")
    restated = Restated(
        time=TIME, generation=3, count=1, totals={}, statistics=content(9), lineage=content(8), how="subtracted"
    )
    drift.fact(restated)
    drift.fact(story.fold())
    drift.fact(story.publish()[0])
    assert math.isnan(number(registry, "version_step_ratio")) and number(registry, "drift_path_total") == before
    drift.fact(story.fold())
    fact, step = story.publish()
    drift.fact(fact)
    assert number(registry, "version_step_ratio") == pytest.approx(step / BASE)


def test_a_restart_goes_on_from_the_newest_version(registry: CollectorRegistry, drift: DriftInstruments) -> None:
    story = Story()
    story.fold()
    story.publish()
    fold = story.fold()
    drift.restore(fold)
    drift.restore(story.publish()[0])
    assert number(registry, "drift_path_total") == 0 and number(registry, "drift_ratio") > 0
    drift.fact(story.fold())
    fact, step = story.publish()
    drift.fact(fact)
    assert number(registry, "version_step_ratio") == pytest.approx(step / BASE)


def test_after_a_crash_before_a_version_its_distance_is_not_guessed(
    registry: CollectorRegistry, drift: DriftInstruments
) -> None:
    story = Story()
    story.fold()
    drift.restore(story.publish()[0])
    drift.restore(story.fold())
    drift.fact(story.publish()[0])
    assert math.isnan(number(registry, "version_step_ratio")) and number(registry, "drift_path_total") == 0


def test_layer_groups_beyond_the_bound_are_told_together(registry: CollectorRegistry, drift: DriftInstruments) -> None:
    layers = [group(f"layers.{n}", merge_norm=3.0, base_norm=4.0, cosine=0.1 - 0.1 * n) for n in range(5)]
    drift.fact(folded(1, groups=(group("*"), *layers)))
    assert number(registry, "group_newcomer_cosine", group="layers.0") == pytest.approx(0.1)
    assert number(registry, "group_newcomer_cosine", group="other") == pytest.approx(-0.3)
    assert number(registry, "group_relative_norm", group="other") == pytest.approx(0.75)
    assert number(registry, "group_newcomer_relative_norm", group="layers.0") == pytest.approx(0.5)
    assert number(registry, "group_newcomer_relative_norm", group="other") == pytest.approx(0.5)
    assert registry.get_sample_value("mergenode_group_relative_norm", {"group": "layers.4"}) is None


def test_scores_are_those_of_what_was_kept(registry: CollectorRegistry, drift: DriftInstruments) -> None:
    tasks = {"english": {"before": 0.9, "after": 0.7}, "code": {"before": 0.1}}
    drift.fact(folded(1, weighing={"name": "fit", "tasks": tasks}))
    assert number(registry, "task_score", task="english") == 0.7
    assert math.isnan(number(registry, "task_score", task="code"))
    scores = {"own": {"english": 0.8}, "mixed": {"english": 0.6}}
    drift.fact(mixed(1, epoch=1, scores=scores))
    assert number(registry, "task_score", task="english") == 0.6
    drift.fact(mixed(2, epoch=2, scores=scores, kept_own=True))
    assert number(registry, "task_score", task="english") == 0.8
    many = {f"task-{n}": {"after": 1.0} for n in range(2 * MAX_TASKS)}
    drift.fact(folded(2, weighing={"tasks": many}))
    shown = [sample for family in registry.collect() for sample in family.samples if "task" in sample.labels]
    assert len(shown) == MAX_TASKS + 1
