"""The stories: an honest stream, and the same one with one kind of bad contributions in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks.drift.harm import KINDS, SLOW_FOLDS, Source, undisturbed
from benchmarks.drift.teams import Suite, honest_stream, team_order
from mergenode.demo.network import Weights

HONEST = "honest"
SLOW, SLOW_TWIN = "slowly drifting", "honest, in the order of the slow drift"
WARM_UP = 12
"""Honest folds before the first bad one: every field twice."""

HONEST_BETWEEN = 2
BAD = 6
FOLDS = WARM_UP + SLOW_FOLDS


@dataclass(frozen=True, slots=True)
class Push:
    """``kind``: ``honest``, or what is wrong with it."""

    name: str
    kind: str
    weights: Callable[[], Weights]


@dataclass(frozen=True, slots=True)
class Story:
    """``kind``: ``honest``, or what is injected."""

    kind: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.kind.replace(',', '').replace(' ', '-')}-{self.seed}"


def stories(honest: int, bad: int) -> list[Story]:
    """``honest`` seeds of the honest stream, ``bad`` seeds of every kind."""
    return [
        *(Story(HONEST, seed) for seed in range(honest)),
        *(Story(kind, seed) for seed in range(bad) for kind in (*KINDS, SLOW_TWIN)),
    ]


def pushes(story: Story, suite: Suite) -> Iterator[Push]:
    """In the order in which they are pushed. One field is the victim of a story, another one every seed."""
    fields = list(suite.experts)
    victim = fields[story.seed % len(fields)]
    stream, teams = honest_stream(suite, story.seed), team_order(suite, story.seed)
    done = 0
    for number in range(FOLDS):
        after = number - WARM_UP
        slow = story.kind in (SLOW, SLOW_TWIN)
        due = after >= 0 and (slow or (after % (HONEST_BETWEEN + 1) == 0 and done < BAD))
        if story.kind == HONEST or not due:
            name, _, weights = next(stream)
            yield Push(f"{number:02d}-{name}", HONEST, lambda weights=weights: weights)
            continue
        make, kind = (undisturbed, HONEST) if story.kind == SLOW_TWIN else (KINDS[story.kind], story.kind)
        # Whoever drifts slowly goes through all fields; the others go for one.
        field = fields[done % len(fields)] if slow else victim
        turn = WARM_UP // len(fields) + done // len(fields) if slow else done
        expert = suite.experts[field][teams[field][turn]]
        name = f"{number:02d}-{'bad' if kind != HONEST else field}"
        yield Push(name, kind, partial(make, suite, Source(field, expert, done)))
        done += 1
