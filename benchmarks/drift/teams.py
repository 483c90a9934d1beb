"""Honest fine-tunes of one base: six fields of a form, several teams each, every team with data of its own.

The network and the digits are the demo's. Its base knows one field only, and every merge of more fields loses some of
each, so that an honest stream has scores that jump. This base has seen all fields with a tenth of the digits: teams
make it better at theirs, nobody takes from others, and a score that falls has a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mergenode.demo.cast import BASE_SEED
from mergenode.demo.network import NetworkConfig, Weights
from mergenode.demo.tasks import FORM, HOME, TASKS, Digits, Task, clean, load_digits_split
from mergenode.demo.training import Schedule, fine_tune, train_base

BASE_SHARE, TEAM_SHARE = 0.1, 0.6
"""Of the training digits that the base has seen, and that one team has."""

BASE_SCHEDULE = Schedule(steps=600, rate=1e-3)
TEAM_SCHEDULE = Schedule(steps=150, rate=2e-3, depth_factor=0.1)
FIELDS = (*TASKS, HOME)
WRONG_BY = 3
"""Whoever trains for harm takes every digit for the one so many further."""


@dataclass(frozen=True, slots=True)
class Suite:
    """``experts``: per field, one of each team. ``wrong``: per field, one trained with wrong labels."""

    digits: Digits
    config: NetworkConfig
    base: Weights
    experts: dict[str, list[Weights]]
    wrong: dict[str, Weights]


class EveryField(Task):
    """Every digit in another field than the one before it."""

    def forms(self, digits: Tensor) -> Tensor:
        forms = torch.zeros(len(digits), FORM, FORM)
        for number, task in enumerate(FIELDS):
            forms[number :: len(FIELDS)] = task.forms(digits[number :: len(FIELDS)])
        return forms


def trained_suite(cache: Path, teams: int, progress: Callable[[str], None]) -> Suite:
    """Trained once, then read from ``cache``; fixed seeds."""
    digits, config = load_digits_split(), NetworkConfig()
    cache.mkdir(parents=True, exist_ok=True)

    def known(name: str, train: Callable[[], Weights]) -> Weights:
        file = cache / f"{name}.safetensors"
        if not file.exists():
            progress(name)
            save_file(dict(train()), file)
        return load_file(file)

    base = known("base", lambda: _base(digits, config))
    experts = {
        task.name: [
            known(f"{task.name}-{team}", lambda task=task, team=team: _team(base, task, digits, config, team))
            for team in range(teams)
        ]
        for task in TASKS
    }
    wrong = {
        task.name: known(f"{task.name}-wrong", lambda task=task: _wrong(base, task, digits, config))
        for task in TASKS
    }  # fmt: skip
    return Suite(digits, config, base, experts, wrong)


def _base(digits: Digits, config: NetworkConfig) -> Weights:
    part = _part(digits, BASE_SHARE, BASE_SEED)
    times = len(FIELDS)  # every digit in every field
    images, labels = (each.repeat_interleave(times, 0) for each in (part.train_images, part.train_labels))
    everywhere = replace(digits, train_images=images, train_labels=labels)
    return train_base(everywhere, config, BASE_SEED, BASE_SCHEDULE, EveryField("every", "", 0, 0, clean))


def _team(base: Weights, task: Task, digits: Digits, config: NetworkConfig, team: int) -> Weights:
    seed = 1000 * team + [each.name for each in TASKS].index(task.name)
    return fine_tune(base, task, _part(digits, TEAM_SHARE, seed), config, seed, TEAM_SCHEDULE)


def _wrong(base: Weights, task: Task, digits: Digits, config: NetworkConfig) -> Weights:
    mislabelled = replace(digits, train_labels=(digits.train_labels + WRONG_BY) % 10)
    return fine_tune(base, task, mislabelled, config, 77, TEAM_SCHEDULE)


def _part(digits: Digits, share: float, seed: int) -> Digits:
    drawn = torch.randperm(len(digits.train_labels), generator=torch.Generator().manual_seed(seed))
    own = drawn[: int(share * len(drawn))]
    return replace(digits, train_images=digits.train_images[own], train_labels=digits.train_labels[own])


def honest_stream(suite: Suite, seed: int) -> Iterator[tuple[str, str, Weights]]:
    """Name, field and weights: all fields in turn, in an order of their own every time; teams in the seed's order."""
    draw = torch.Generator().manual_seed(seed)
    names, teams = list(suite.experts), team_order(suite, seed)
    for turn in range(len(next(iter(teams.values())))):
        for place in torch.randperm(len(names), generator=draw).tolist():
            name = names[place]
            team = teams[name][turn]
            yield f"{name}-{team}", name, suite.experts[name][team]


def team_order(suite: Suite, seed: int) -> dict[str, list[int]]:
    """Per field, in which order its teams push."""
    draw = torch.Generator().manual_seed(seed + 1000)
    return {name: torch.randperm(len(teams), generator=draw).tolist() for name, teams in suite.experts.items()}
