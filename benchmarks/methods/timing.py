"""CPU seconds of several actions, taken in turn, and their ratios."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

Samples = Mapping[str, list[float]]


@dataclass(frozen=True, slots=True)
class Figure:
    """``value``: CPU of an action over that of its reference, median of pairs; ``limit`` 0: only shown."""

    name: str
    value: float
    limit: float
    detail: str

    @property
    def holds(self) -> bool:
        return not self.limit or self.value <= self.limit

    @property
    def row(self) -> str:
        return f"| {self.name} | {self.value:.2f} | {f'{self.limit:.1f}' if self.limit else ''} | {self.detail} |"


def in_turn(actions: Mapping[str, Callable[[], object]], repeats: int) -> Samples:
    """One uncounted round, then ``repeats`` rounds of all actions: CPU seconds of this process, by action."""
    samples: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(repeats + 1):
        for name, action in actions.items():
            before = time.process_time()
            result = action()
            spent = time.process_time() - before
            del result
            if number:
                samples[name].append(spent)
    return samples


def compared(name: str, samples: Samples, ours: str, reference: str, limit: float = 0.0) -> Figure:
    """Ratio of two actions of one set of samples, round by round."""
    pairs = [a / b for a, b in zip(samples[ours], samples[reference], strict=True)]
    a, b = median(samples[ours]), median(samples[reference])
    detail = f"{_shown(a)} of {_shown(b)}; {min(pairs):.2f} to {max(pairs):.2f}"
    return Figure(name, median(pairs), limit, detail)


def _shown(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
