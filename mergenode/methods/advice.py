"""Which method to take: measured quality beside what a node needs. Pure: values in, values out.

The quality of a method is the share of the experts' gain that one merged model kept on a real suite. It was measured in
three settings (experts trained lightly or strongly, one per task; several contributions per task) at several numbers of
contributions; a node is compared with the nearest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

MANY = "many"
"""The setting with several contributions per task."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure of the benchmark: ``kept`` and its standard error as shares of 1, for ``count`` contributions."""

    method: str
    options: Mapping[str, object]
    setting: str
    count: int
    kept: float
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is merged. ``relative_norm``: mean norm of the task vectors' matrices over the base's; None: not known."""

    count: int
    relative_norm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the operator needs beside quality. ``disk``, ``memory``: bytes that are there; None: enough."""

    retract: bool = False
    combine: bool = False
    side_cars: bool = False
    disk: int | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A method for this base: what it needs and can do. ``statistics``, ``memory``: bytes."""

    method: str
    options: Mapping[str, object]
    statistics: int
    memory: int
    subtracts: bool
    combines: bool
    needs: frozenset[str]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A choice with its figure, and why it is out of the question; ``against`` empty: it is not."""

    choice: Choice
    measured: Measured
    against: tuple[str, ...]


def nearest_setting(
    situation: Situation, counts: Mapping[str, Sequence[int]], norms: Mapping[str, float]
) -> tuple[str, int]:
    """The measured setting and number of contributions that resemble a situation most.

    ``counts``: numbers of contributions measured per setting; ``norms``: mean relative norm of its contributions. More
    contributions than any setting with one per task has stand for several per task; below, the lengths of the task
    vectors decide, on a logarithmic scale.
    """
    single = {name: numbers for name, numbers in counts.items() if name != MANY and numbers}
    most = max((max(numbers) for numbers in single.values()), default=0)
    if MANY in counts and (not single or situation.count > 1.5 * most):
        setting = MANY
    elif situation.relative_norm:
        length = log(situation.relative_norm)
        setting = min(single, key=lambda name: abs(log(norms[name]) - length))
    else:
        setting = max(single, key=lambda name: norms[name])  # conflict is the careful assumption
    wanted = log(max(1, situation.count))
    return setting, min(counts[setting], key=lambda count: abs(log(count) - wanted))


def rank(choices: Sequence[Choice], figures: Sequence[Measured], wishes: Wishes) -> list[Ranked]:
    """What is possible first, best kept first among each. ``figures``: of one setting and number of contributions.

    A choice that was not measured is left out.
    """
    found = {(figure.method, _key(figure.options)): figure for figure in figures}
    ranked = [
        Ranked(choice, found[choice.method, _key(choice.options)], tuple(_against(choice, wishes)))
        for choice in choices
        if (choice.method, _key(choice.options)) in found
    ]
    return sorted(ranked, key=lambda each: (bool(each.against), -each.measured.kept))


def within_error(ranked: Sequence[Ranked]) -> list[Ranked]:
    """Of what is possible: the best, and what one standard error of the two does not tell from it."""
    possible = [each for each in ranked if not each.against]
    if not possible:
        return []
    best = possible[0].measured
    return [
        each for each in possible if best.kept - each.measured.kept <= (best.error**2 + each.measured.error**2) ** 0.5
    ]


def _against(choice: Choice, wishes: Wishes) -> list[str]:
    reasons = []
    if wishes.retract and not choice.subtracts:
        reasons.append("retracts by replay only")
    if wishes.combine and not choice.combines:
        reasons.append("cannot be combined")
    if choice.needs and not wishes.side_cars:
        reasons.append(f"needs side-cars: {', '.join(sorted(choice.needs))}")
    if wishes.disk is not None and choice.statistics > wishes.disk:
        reasons.append("too little disk")
    if wishes.memory is not None and choice.memory > wishes.memory:
        reasons.append("too little memory")
    return reasons


def _key(options: Mapping[str, object]) -> str:
    return repr(sorted((name, repr(value)) for name, value in options.items()))
