"""Accuracy and the share of the gain, against counting by hand."""

from __future__ import annotations

import pytest
import torch

from mergenode.demo.network import FormReader, NetworkConfig, Weights
from mergenode.demo.scores import Examination, gain_kept, mean
from mergenode.demo.tasks import HOME, TASKS, Digits


def test_score_counts_right_answers(digits: Digits, config: NetworkConfig, base: Weights) -> None:
    scores = Examination(digits, config).score(base)
    network = FormReader(config, seed=9)
    network.load_state_dict(dict(base))
    with torch.no_grad():
        answers = network(HOME.forms(digits.test_images)).argmax(dim=1).tolist()
    right = sum(answer == label for answer, label in zip(answers, digits.test_labels.tolist(), strict=True))
    assert scores["home"] == pytest.approx(right / len(answers), abs=1e-12)
    assert set(scores) == {*(task.name for task in TASKS), "home"}


def test_weights_of_another_shape_are_refused(digits: Digits, config: NetworkConfig, base: Weights) -> None:
    with pytest.raises(RuntimeError, match=r"head\.bias"):
        Examination(digits, config).score({**base, "head.bias": torch.zeros(11)})


def test_mean_leaves_the_home_field_out() -> None:
    assert mean({**{task.name: 0.25 for task in TASKS}, "home": 1.0}) == 0.25


def test_gain_kept_over_the_tasks_inside() -> None:
    base = {"tilted": 0.1, "slanted": 0.2, "copied": 0.0}
    experts = {"tilted": {"tilted": 0.9}, "slanted": {"slanted": 0.8}, "copied": {"copied": 1.0}}
    merged = {"tilted": 0.5, "slanted": 0.8, "copied": 0.0}
    assert gain_kept(merged, base, experts, ["tilted"]) == pytest.approx(0.5)
    assert gain_kept(merged, base, experts, ["tilted", "slanted"]) == pytest.approx(1.0 / 1.4)
    assert gain_kept(merged, base, experts, experts) == pytest.approx(1.0 / 2.4)
