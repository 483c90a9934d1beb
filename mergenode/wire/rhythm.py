"""When neighbours are called, and when silence means something. Seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """The times of the failure detector; both ends may differ, nothing depends on their being equal."""

    exchange: float = 5.0
    """Between two calls to a neighbour that answers."""
    deadline: float = 5.0
    """For its answer."""
    spread: float = 0.2
    """Every pause is longer or shorter by up to this share, so that nodes do not fall into step."""
    missed: int = 3
    """Calls without an answer, one after another, that make a neighbour suspect."""
    down: float = 30.0
    """Silence after which it counts as down."""
    back_off: float = 300.0
    """Longest pause between calls to a node that is down."""
    transfer: float = 900.0
    """How long after its last message a node counts as alive because weights still arrive from it."""

    @property
    def suspect(self) -> float:
        """Silence that makes a neighbour suspect that only calls and is never called."""
        return self.missed * self.exchange * (1 + self.spread)

    def pause(self, failures: int, draw: float) -> float:
        """Until the next call, after so many failures in a row. ``draw``: uniform in [0, 1).

        The pace is kept until the neighbour can be down, then doubles up to ``back_off``.
        """
        doublings = min(max(0, failures - round(self.down / self.exchange)), 32)
        return min(self.back_off, self.exchange * 2.0**doublings) * (1 + self.spread * (2 * draw - 1))

    def longest(self) -> float:
        """The longest pause there is."""
        return self.back_off * (1 + self.spread)
