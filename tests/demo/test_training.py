"""Training is reproducible, experts learn their field, and stay in the basin of their base."""

from __future__ import annotations

import math

import torch

from mergenode.demo.network import FormReader, NetworkConfig, Weights
from mergenode.demo.scores import Examination
from mergenode.demo.tasks import TASKS, Digits
from mergenode.demo.training import ADAPTED, Schedule, fine_tune, fine_tune_adapter, train_base

SHORT = Schedule(steps=15, rate=6e-3, depth_factor=0.1)
LONGER = Schedule(steps=120, rate=6e-3, depth_factor=0.1)
MARGIN = 0.5


def _equal(left: Weights, right: Weights) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def _relative_norm(tuned: Weights, base: Weights) -> float:
    matrices = [name for name in base if base[name].ndim >= 2]
    moved = sum(float((tuned[name].double() - base[name].double()).square().sum()) for name in matrices)
    return math.sqrt(moved / sum(float(base[name].double().square().sum()) for name in matrices))


def test_same_seed_same_weights(digits: Digits, config: NetworkConfig, base: Weights) -> None:
    assert _equal(train_base(digits, config, 3, SHORT), train_base(digits, config, 3, SHORT))
    assert not _equal(train_base(digits, config, 3, SHORT), train_base(digits, config, 4, SHORT))
    first, second = (fine_tune(base, TASKS[0], digits, config, 5, SHORT) for _ in range(2))
    assert _equal(first, second)
    left, right = (fine_tune_adapter(base, TASKS[3], digits, config, 5, SHORT) for _ in range(2))
    assert _equal(left.down, right.down)
    assert _equal(left.up, right.up)


def test_initial_weights_leave_the_global_generator_alone(config: NetworkConfig) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    FormReader(config, seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_expert_is_good_where_the_base_is_lost(digits: Digits, config: NetworkConfig, base: Weights) -> None:
    examination = Examination(digits, config)
    before = examination.score(base)
    assert before["home"] > 0.9
    for task in (TASKS[0], TASKS[5]):
        tuned = fine_tune(base, task, digits, config, 10, LONGER)
        after = examination.score(tuned)
        assert before[task.name] < 0.4
        assert after[task.name] > before[task.name] + MARGIN
        assert 0.01 < _relative_norm(tuned, base) < 0.5


def test_head_stays_shared_and_the_base_is_not_touched(digits: Digits, config: NetworkConfig, base: Weights) -> None:
    copy = {name: tensor.clone() for name, tensor in base.items()}
    tuned = fine_tune(base, TASKS[1], digits, config, 10, SHORT)
    assert _equal(base, copy)
    changed = {name for name in base if not torch.equal(tuned[name], base[name])}
    assert not {"head.weight", "head.bias"} & changed
    assert {"patch_embedding.weight", "mix.weight", "mix.bias", "layers.0.up_proj.weight", "norm.weight"} <= changed


def test_adapter_is_low_rank_and_learns(digits: Digits, config: NetworkConfig, base: Weights) -> None:
    task = next(task for task in TASKS if task.name == "clean")
    adapter = fine_tune_adapter(base, task, digits, config, 10, Schedule(steps=150, rate=1e-2, depth_factor=0.1))
    tuned = adapter.applied_to(base)
    for name in base:
        delta = (tuned[name] - base[name]).double()
        if name.removesuffix(".weight") in ADAPTED:
            assert 0 < int(torch.linalg.matrix_rank(delta, rtol=1e-4)) <= adapter.rank
        else:
            assert not delta.any()
    examination = Examination(digits, config)
    assert examination.score(tuned)[task.name] > examination.score(base)[task.name] + MARGIN
