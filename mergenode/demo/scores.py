"""How well a set of weights reads every field, and what of the experts' gain a merge kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from mergenode.demo.network import NetworkConfig, Weights, accuracy
from mergenode.demo.tasks import HOME, TASKS, Digits

Scores = Mapping[str, float]
"""Accuracy in [0, 1] by task name, ``home`` included, on test digits nobody trained on."""


class Examination:
    """The test forms of all fields, made once. ``score`` is a pure function of the weights."""

    def __init__(self, digits: Digits, config: NetworkConfig) -> None:
        self._config = config
        self._labels: Tensor = digits.test_labels
        self._forms = {task.name: task.forms(digits.test_images) for task in (*TASKS, HOME)}

    def score(self, weights: Weights) -> dict[str, float]:
        """Accuracy per field. Raises RuntimeError when the weights do not fit the network."""
        return {name: accuracy(weights, self._config, forms, self._labels) for name, forms in self._forms.items()}


def mean(scores: Scores) -> float:
    """Mean accuracy over the six tasks; the home field does not count."""
    return sum(scores[task.name] for task in TASKS) / len(TASKS)


def gain_kept(scores: Scores, base: Scores, experts: Mapping[str, Scores], folded: Iterable[str]) -> float:
    """Share of the experts' gain over the base that ``scores`` keeps on the tasks in ``folded``; 1 is all of it."""
    tasks = list(folded)
    gained = sum(scores[name] - base[name] for name in tasks)
    return gained / sum(experts[name][name] - base[name] for name in tasks)
