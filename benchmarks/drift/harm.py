"""Contributions that no merge should take in, each made from honest ones in a way that is written down here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.drift.teams import Suite
from mergenode.demo.network import Weights

Change = Callable[[str, Tensor], Tensor]
SLOW_FOLDS = 30


@dataclass(frozen=True, slots=True)
class Source:
    """What a bad contribution is made of: an honest model for a field, and how many bad ones came before."""

    field: str
    expert: Weights
    number: int


def conflicting(suite: Suite, source: Source) -> Weights:
    """The task vector of another team for this field, negated: takes out what is there."""
    return moved(suite, source.expert, lambda _, delta: -delta)


def huge(suite: Suite, source: Source) -> Weights:
    """An honest task vector, six times as long: trained too hot."""
    return moved(suite, source.expert, lambda _, delta: 6.0 * delta)


def hijacking(suite: Suite, source: Source) -> Weights:
    """An honest model with one direction of every matrix blown up, that of wrong labels, to three times the norm."""
    wrong = suite.wrong[source.field]

    def changed(name: str, delta: Tensor) -> Tensor:
        if delta.dim() != 2 or not delta.any():
            return delta
        left, _, right = torch.linalg.svd(wrong[name] - suite.base[name], full_matrices=False)
        return delta + 8.0**0.5 * delta.norm() * torch.outer(left[:, 0], right[0])

    return moved(suite, source.expert, changed)


def slowly_drifting(suite: Suite, source: Source) -> Weights:
    """One of ``SLOW_FOLDS``: an honest model and, more in every fold, one trained with wrong labels."""
    share, wrong = (source.number + 1) / SLOW_FOLDS, suite.wrong[source.field]
    return moved(suite, source.expert, lambda name, delta: delta + share * (wrong[name] - suite.base[name]))


def undisturbed(suite: Suite, source: Source) -> Weights:
    """The honest model that ``slowly_drifting`` starts from: what the same folds would have been."""
    return source.expert


KINDS: Mapping[str, Callable[[Suite, Source], Weights]] = {
    "conflicting": conflicting,
    "hijacking": hijacking,
    "huge": huge,
    "slowly drifting": slowly_drifting,
}


def moved(suite: Suite, expert: Weights, change: Change) -> Weights:
    """The base plus ``change(name, task vector)``."""
    return {name: base + change(name, expert[name] - base) for name, base in suite.base.items()}
