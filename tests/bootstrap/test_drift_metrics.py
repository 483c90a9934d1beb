"""Steps between versions as metrics tell them from facts, and as the bytes of the versions have them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from prometheus_client import CollectorRegistry

from mergenode.adapters.observers.bounded_labels import FirstLabels
from mergenode.adapters.observers.drift_instruments import DriftInstruments
from mergenode.ledger.records import Folded, Published
from mergenode.maths.opposing_signs import STRIDE
from tests.support.checkpoints import Tensors, load_single
from tests.support.real_node import RealNode


def apart(one: Tensors, other: Tensors) -> float:
    return math.hypot(*(float((one[name].double() - other[name].double()).norm()) for name in one))


@pytest.mark.parametrize("method", [{"name": "opcm"}, {"name": "average"}, {"name": "task_arithmetic"}])
def test_a_step_is_the_distance_of_two_versions(tmp_path: Path, method: dict[str, object]) -> None:
    draw = torch.Generator().manual_seed(1)
    base = {"a.weight": torch.randn(24, 16, generator=draw), "b.weight": torch.randn(9, 5, generator=draw)}
    node = RealNode(tmp_path, tensors=base, method=method)
    for seed in (1, 2, 3):
        node.put(f"team-{seed}", seed)
        node.run_once()
    registry = CollectorRegistry()
    drift = DriftInstruments(registry, FirstLabels(8))
    size = math.hypot(*(float(tensor.double().norm()) for tensor in base.values()))
    before, way = base, 0.0
    for fact in node.facts("folded", "published"):
        assert isinstance(fact, Folded | Published)
        drift.fact(fact)
        if isinstance(fact, Published):
            version = load_single(node.published / f"v{fact.version:06d}")
            step = apart(version, before)
            way += step
            assert registry.get_sample_value("mergenode_version_step_ratio") == pytest.approx(step / size, rel=1e-3)
            assert registry.get_sample_value("mergenode_drift_ratio") == pytest.approx(
                apart(version, base) / size, rel=1e-3
            )
            before = version
    assert node.versions() == [1, 2, 3]
    assert registry.get_sample_value("mergenode_drift_path_total") == pytest.approx(way / size, rel=1e-3)
    assert registry.get_sample_value("mergenode_base_norm") == pytest.approx(size)


def test_sign_conflict_is_that_of_the_entries_that_are_looked_at(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(1)
    base = {"a.weight": torch.randn(700, 64, generator=draw), "b.weight": torch.randn(9, 5, generator=draw)}
    node = RealNode(tmp_path, tensors=base, method={"name": "average"})
    for seed in (1, 2, 3):
        node.put(f"team-{seed}", seed)
    node.run_once()
    merge = {name: torch.zeros(tensor.numel()) for name, tensor in base.items()}
    for fact in node.facts("folded"):
        assert isinstance(fact, Folded)
        tuned = load_single(node.inbox / fact.name)
        against = compared = 0.0
        for name, tensor in base.items():
            delta = (tuned[name] - tensor).reshape(-1)
            for place in range(0, tensor.numel(), STRIDE):
                if merge[name][place] != 0:
                    compared += abs(float(delta[place]))
                    against += abs(float(delta[place])) * float(delta[place] * merge[name][place] < 0)
            merge[name] += delta
        expected = against / compared if compared else None
        assert fact.groups[0]["sign_conflict"] == (expected and pytest.approx(expected, rel=1e-5))
