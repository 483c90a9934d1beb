"""Which checkpoints the experiments are made of, fixed before any result: tasks, experts, and what spoils a pool."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle

from benchmarks.quality.training import Recipe

TARGETS = ("wordnet", "debsec", "lang", "fortune")
"""The first four tasks of the quality benchmark, in the order in which a run of fewer tasks takes them."""

OTHERS = ("bible", "austen", "spam", "names", "sotu")
SHUFFLED = ("wordnet", "lang")
SHARDS = 4
"""Disjoint quarters of the training rows of a task: one expert each."""

RECIPE = Recipe(rows=1280, epochs=1)
"""The light setting: a quarter has up to 1,000 rows."""

SEEDS = (0, 1, 2)
IRRELEVANT = (0, 4, 8, 16, 32)
RELEVANT = (4, 8, 12, 16)
OTHER_TASKS = (0, 5, 10)
"""Sizes of the pools: irrelevant and harmful ones beside 4 relevant; relevant ones alone; other tasks' beside 4."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One checkpoint of a pool: ``factor`` times the task vector of ``source``.

    ``source``: ``TASK-SHARD`` (an expert), ``shuffled-TASK`` (trained on labels that were permuted among the rows), or
    ``noise-N`` (Gaussian, each tensor with the norm that it has in ``like``).
    """

    kind: str
    source: str
    factor: float = 1.0
    like: str = ""

    @property
    def name(self) -> str:
        return self.source if self.factor == 1.0 else f"{self.source}*{self.factor:g}"


def relevant(seed: int, count: int) -> tuple[Candidate, ...]:
    """One expert of every target, then a second one of each ...; seed n begins with the n-th quarter of the rows."""
    return tuple(
        Candidate("relevant", f"{task}-{(seed + turn) % SHARDS}") for turn in range(count // 4) for task in TARGETS
    )


def other_tasks(seed: int, count: int) -> tuple[Candidate, ...]:
    """Experts of the five other tasks, as they are."""
    return tuple(
        Candidate("other task", f"{task}-{(seed + turn) % 2}") for turn in range(count // 5) for task in OTHERS
    )


def irrelevant(seed: int, count: int) -> tuple[Candidate, ...]:
    """The first ``count`` of 32, kinds in turn, so that every size holds a mixture."""
    return tuple(_irrelevant(seed))[:count]


def _irrelevant(seed: int) -> Iterator[Candidate]:
    here, next_one = seed % 2, (seed + 1) % 2
    queues = {
        "other": [Candidate("other task", f"{task}-{shard}") for shard in (here, next_one) for task in OTHERS],
        "noise": [Candidate("noise", _noise(seed, n), 1.0, f"{task}-{seed}") for n, task in enumerate(TARGETS)],
        "flipped": [Candidate("relevant, sign-flipped", f"{task}-{seed}", -1.0) for task in TARGETS],
        "x20": [Candidate("other task x 20", f"{task}-{here}", 20.0) for task in OTHERS],
        "other flipped": [Candidate("other task, sign-flipped", f"{task}-{next_one}", -1.0) for task in OTHERS[:4]],
        "noise x20": [
            Candidate("noise x 20", _noise(seed, 4 + n), 20.0, f"{task}-{here}") for n, task in enumerate(OTHERS[:3])
        ],
        "shuffled": [Candidate("labels shuffled", f"shuffled-{task}") for task in SHUFFLED],
    }
    turns = ("other", "noise", "flipped", "x20", "other", "other flipped", "noise x20", "shuffled")
    for turn in cycle(turns):
        if not any(queues.values()):
            return
        if queues[turn]:
            yield queues[turn].pop(0)


def _noise(seed: int, number: int) -> str:
    return f"noise-{10 * seed + number}"


def universe(seed: int) -> tuple[Candidate, ...]:
    """Everything that a pool of this seed may hold, each once."""
    every = (*relevant(seed, max(RELEVANT)), *irrelevant(seed, max(IRRELEVANT)), *other_tasks(seed, max(OTHER_TASKS)))
    return tuple({candidate.name: candidate for candidate in every}.values())
