"""Slow shifts per layer group, and the number by which a fold is found."""

from __future__ import annotations

import math

import pytest
from prometheus_client import CollectorRegistry

from mergenode.adapters.observers.bounded_labels import FirstLabels
from mergenode.adapters.observers.quarantine_instruments import QuarantineInstruments
from mergenode.adapters.observers.shift_instruments import ShiftInstruments, smallest
from mergenode.ledger.records import Folded
from tests.support.observed import folded, group


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def fold(number: int, norms: dict[str, float], weight: float = 1.0) -> Folded:
    whole = math.hypot(*norms.values())
    groups = tuple(group(name, delta_norm=weight * norm) for name, norm in {"*": whole, **norms}.items())
    return folded(number, groups=groups, weight=weight)


def shift(registry: CollectorRegistry, name: str) -> float | None:
    return registry.get_sample_value("mergenode_group_newcomer_norm_shift", {"group": name})


def test_the_group_that_grows_is_told_whatever_the_weights(registry: CollectorRegistry) -> None:
    instruments = ShiftInstruments(registry, FirstLabels(3))
    assert math.isnan(registry.get_sample_value("mergenode_newcomer_norm_shift") or 0.0)
    for number in range(1, 41):
        wobble = 1 + 0.1 * math.sin(number)
        grown = 1.03 ** max(0, number - 15)
        weight = 0.5 if number % 2 else 2.0
        instruments.fact(fold(number, {"calm": wobble, "grows": grown * wobble, "still": 1e-9}, weight))
    assert registry.get_sample_value("mergenode_newest_fold_generation") == 40
    grows, calm = shift(registry, "grows"), shift(registry, "calm")
    assert grows is not None and grows > 2 and calm is not None and abs(calm) < 1
    assert shift(registry, "still") is None, "roundings have no size"


def test_groups_beyond_the_bound_are_one(registry: CollectorRegistry) -> None:
    instruments = ShiftInstruments(registry, FirstLabels(1))
    for number in range(1, 12):
        instruments.fact(fold(number, {"a": 1.0, "b": 1.0, "c": 2.0}))
    assert shift(registry, "other") == 0.0 and shift(registry, "b") is None
    instruments.fact(fold(12, {"a": 1.0}, weight=0.0))
    assert registry.get_sample_value("mergenode_newest_fold_generation") == 12


def test_what_is_too_small_to_be_judged() -> None:
    assert smallest([group("*", delta_norm=5.0), group("a", delta_norm=3.0), group("b", delta_norm=4.0)]) == (
        pytest.approx(0.05 * 5 / math.sqrt(2))
    )
    assert smallest([group("*", delta_norm=5.0)]) == 0.0


def test_a_gate_that_only_observes_names_the_fold_through_a_restart(registry: CollectorRegistry) -> None:
    finding = {"gate": "norm", "action": "observe"}
    instruments = QuarantineInstruments(registry)
    instruments.restore(folded(3, findings=(finding,)))
    assert registry.get_sample_value("mergenode_gate_last_generation", {"gate": "norm"}) == 3
    assert registry.get_sample_value("mergenode_gate_findings_total", {"gate": "norm", "action": "observe"}) == 0
    instruments.fact(folded(4))
    instruments.fact(folded(5, findings=(finding,)))
    instruments.fact(folded(6))
    assert registry.get_sample_value("mergenode_gate_last_generation", {"gate": "norm"}) == 5
    assert registry.get_sample_value("mergenode_gate_last_generation", {"gate": "finite"}) == 0
