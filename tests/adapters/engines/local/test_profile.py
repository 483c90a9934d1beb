"""A contribution's own profile: its weight by tensor name, wherever it is folded, taken out or folded again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mergenode.adapters.engines.local.restate import LocalRestater
from mergenode.ledger.chain import lineage
from mergenode.ledger.restatement import Subtract
from mergenode.types import Candidate, Digest, FoldResult, Head
from tests.support.local_node import LocalNode, load_model, same_bits
from tests.support.models import fine_tune, random_base, write_model

LOWER, UPPER = "layers.0.*", "layers.1.*"
REST = (("model.*", 0.0), ("vision.*", 0.0), ("lm_head.*", 0.0))


def fold(node: LocalNode, path: Path, **fields: object) -> FoldResult:
    """Like ``LocalNode.fold``, as a candidate with more to say."""
    candidate = replace(Candidate("inbox", path.name, "1", str(path)), **fields)  # type: ignore[arg-type]  # any field
    result = node.engine.fold(candidate, node.head, node.observer)
    node.generations.install(node.head.generation + 1)
    node.generations.retire(node.head.generation + 1)
    node.head = Head(node.head.generation + 1, node.head.count + 1, result.totals, result.statistics)
    return result


def world(root: Path, count: int = 2) -> tuple[Path, list[Path]]:
    base = random_base(dtype=torch.float32)
    return write_model(root / "base", base), [write_model(root / f"m{n}", fine_tune(base, n)) for n in range(count)]


@pytest.mark.parametrize("method", ["task_arithmetic", "average", "iso", "opcm"])
def test_a_factor_is_a_weight_in_the_tensors_that_it_names(tmp_path: Path, method: str) -> None:
    base, (model, other) = world(tmp_path)
    halved, plain, half = (LocalNode(tmp_path / name, base, method) for name in ("halved", "plain", "half"))
    for node in (halved, plain, half):
        node.fold(other)
    fold(halved, model, profile=((LOWER, 0.5),))
    fold(plain, model)
    fold(half, model, weight=0.5)
    mixed, whole, less = (node.running_sum() for node in (halved, plain, half))
    for name, total in mixed.items():
        assert torch.equal(total, less[name] if name.startswith("layers.0.") else whole[name]), name


def test_factors_of_all_patterns_multiply(tmp_path: Path) -> None:
    base, (model, _) = world(tmp_path)
    node, other = LocalNode(tmp_path / "a", base, "task_arithmetic"), LocalNode(tmp_path / "b", base, "task_arithmetic")
    fold(node, model, weight=2.0, profile=(("*.bias", 0.5), (LOWER, 0.5)))
    fold(other, model, weight=0.5)
    name = "layers.0.attn.q_proj.bias"
    assert torch.equal(node.running_sum()[name], other.running_sum()[name])


def test_layer_swapping(tmp_path: Path) -> None:
    """Lower layers of one model, upper layers of another, the rest of the base."""
    base, (lower, upper) = world(tmp_path)
    node = LocalNode(tmp_path / "node", base, "task_arithmetic", {"scale": 1.0})
    fold(node, lower, profile=((UPPER, 0.0), *REST))
    fold(node, upper, profile=((LOWER, 0.0), *REST))
    published, original = node.published(tmp_path / "out"), load_model(base)
    first, second = load_model(lower), load_model(upper)
    for name, tensor in published.items():
        expected = first if name.startswith("layers.0.") else second if name.startswith("layers.1.") else original
        assert torch.allclose(tensor, expected[name], rtol=0, atol=1e-7), name


def test_what_has_no_weight_leaves_the_statistics_alone(tmp_path: Path) -> None:
    base, (model, other) = world(tmp_path)
    broken = {name: tensor.clone() for name, tensor in load_model(model).items()}
    broken["layers.1.exact.weight"][0, 0] = float("nan")
    node = LocalNode(tmp_path / "node", base, "aswudi")
    node.fold(other)
    before = node.records()
    fold(node, write_model(tmp_path / "broken", broken), profile=((UPPER, 0.0),))
    after = node.records()
    for name, record in after.items():
        same = record["statistics"] == before[name]["statistics"]
        assert same is name.startswith("layers.1.") or not record["statistics"] or name == "vision.empty", name


@pytest.mark.parametrize("method", ["task_arithmetic", "iso", "ties", "dare", "aswudi"])
def test_taking_it_out_again_uses_the_same_weights(tmp_path: Path, method: str) -> None:
    base, (model, other) = world(tmp_path)
    node, without = LocalNode(tmp_path / "node", base, method), LocalNode(tmp_path / "without", base, method)
    without.fold(other)
    node.fold(other)
    profile = ((LOWER, 0.25), (UPPER, 0.0))
    result = fold(node, model, profile=profile)
    leaving = Candidate("inbox", model.name, "1", str(model), content=result.content, forced=True, profile=profile)
    LocalRestater(node.engine).restate(Subtract(node.head, (leaving,)), node.observer)
    node.generations.install(3)
    node.head = replace(node.head, generation=3, totals=without.head.totals)
    left, right = node.published(tmp_path / "left"), without.published(tmp_path / "right")
    assert all(torch.allclose(left[name], tensor, rtol=0, atol=2e-6) for name, tensor in right.items())


def test_another_profile_is_another_fold_and_another_lineage(tmp_path: Path) -> None:
    base, (model, _) = world(tmp_path)
    nodes = [LocalNode(tmp_path / f"{n}", base) for n in range(3)]
    profiles: tuple[tuple[tuple[str, float], ...], ...] = ((), ((LOWER, 0.5),), ((LOWER, 0.5),))
    results = [fold(node, model, profile=profile) for node, profile in zip(nodes, profiles, strict=True)]
    assert results[0].content == results[1].content
    assert results[1].statistics == results[2].statistics != results[0].statistics
    step = {"base": Digest("b"), "method": "opcm", "options": {}, "content": Digest("c"), "weight": 1.0}
    plain, profiled = lineage(None, **step), lineage(None, **step, profile={LOWER: 0.5})
    assert plain == lineage(None, **step, profile={}) != profiled
    assert profiled != lineage(None, **step, profile={LOWER: 0.25})


def test_no_profile_changes_no_byte(tmp_path: Path) -> None:
    base, (model, _) = world(tmp_path)
    plain, ones = LocalNode(tmp_path / "plain", base), LocalNode(tmp_path / "ones", base)
    plain.fold(model)
    fold(ones, model, profile=(("*", 1.0),))
    left, right = plain.published(tmp_path / "left"), ones.published(tmp_path / "right")
    assert all(same_bits(left[name], right[name]) for name in left)
