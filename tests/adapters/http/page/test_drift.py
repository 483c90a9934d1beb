"""Where versions lie, against the gauges that say the same of a running node."""

from __future__ import annotations

import math

import pytest
from prometheus_client import CollectorRegistry

from mergenode.adapters.http.page.charts import Chart, Line, drawn
from mergenode.adapters.http.page.drift import places
from mergenode.adapters.http.page.recent import read_recent
from mergenode.adapters.http.page.wording import percent
from mergenode.adapters.observers.bounded_labels import FirstLabels
from mergenode.adapters.observers.drift_instruments import DriftInstruments
from mergenode.ledger.records import Published, Restated
from tests.support import facts
from tests.support.memory_ledger import MemoryLedger
from tests.support.observed import group
from tests.support.page_story import story


def test_places_are_what_the_metrics_say() -> None:
    ledger, registry = MemoryLedger(), CollectorRegistry()
    told = list(story(16, 5))
    ledger.append(*told)
    gauges = DriftInstruments(registry, FirstLabels(9))
    expected, restated = [], False
    for fact in told:
        gauges.fact(fact)
        restated = isinstance(fact, Restated) or (restated and not isinstance(fact, Published))
        if isinstance(fact, Published):
            names = ("mergenode_drift_ratio", "mergenode_version_step_ratio")
            expected.append((fact.version, *(registry.get_sample_value(name) for name in names)))
    found = {place.version: place for place in places(read_recent(ledger))}
    assert len(found) == len(expected) == 16
    for version, drift, step in expected:
        assert found[version].drift == pytest.approx(drift)
        if version not in (13, 14):  # the fact of a restatement does not say where it left the merge
            assert step is not None and math.isfinite(step) and found[version].step == pytest.approx(step)
    assert (found[13].step, found[14].step) == (None, None)


def test_without_norms_of_the_merge_a_step_is_unknown() -> None:
    ledger = MemoryLedger()
    ledger.append(facts.initialised())
    for number in (1, 2):
        ledger.append(facts.folded(number, groups=(group("*", merge_norm=None),)),
                      facts.published(number, scale={"update_norm": 3.0}))  # fmt: skip
    assert [(place.drift, place.step) for place in places(read_recent(ledger))] == [(0.1, None), (0.1, None)]


def test_a_chart_breaks_where_nothing_is_known() -> None:
    words = ["a", "b", "c", "d"]
    picture = drawn(Chart("T", [Line("l", [0.1, None, 0.2, 0.3], words)], "v1", "v4", percent, "n"))
    (path,) = [part for part in picture.split('d="')[1:]]
    assert path.split('"')[0].count("M") == 2
    assert "<title>T, v1 to v4: lowest 10.0 %, highest 30.0 %</title>" in picture
    assert picture.count('class="hit"') == 3 and "<title>b</title>" not in picture
    assert drawn(Chart("T", [Line("l", [None], ["a"])], "v1", "v1", percent, "n")) == ""


@pytest.mark.parametrize("values", [[0.0], [0.5, 0.5], [-1e-9, 1e9], [1e-300], [-3.0, -2.0], [5e-324]])
def test_a_chart_of_any_values_is_drawn(values: list[float]) -> None:
    for zero in (True, False):
        picture = drawn(Chart("T", [Line("l", values, [""] * len(values))], "a", "b", percent, "n", zero=zero))
        assert "nan" not in picture and "inf" not in picture and "<svg" in picture
