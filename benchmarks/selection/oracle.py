"""The world as the selector of mergenode sees it, in this process: exact scores and losses at any point of the hull.

Scores are measured for everything that a pool of the seed may hold and are kept by the point at which they were, so
that pools which lead through the same points share them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from blake3 import blake3

from benchmarks.selection.probe import Probe
from benchmarks.selection.vectors import GroupWeights, Vectors
from mergenode.selectors.contract import WHOLE, Scores, State

DIGITS = 12


class Measurements:
    """Scores and losses of one seed. Durability: each is a file that appears whole; nothing is measured twice."""

    def __init__(self, folder: Path, probe: Probe, vectors: Vectors) -> None:
        self._folder = folder
        self._probe = probe
        self.vectors = vectors
        self.gradients = 0

    def scores(self, weights: GroupWeights) -> dict[str, dict[str, float]]:
        """Candidate -> group -> <g, tau> at this point, for every candidate of the seed."""
        key = self.point(weights)
        known = self._read(f"scores-{key}")
        if known is None:
            model = self.vectors.space.weights(self.vectors.combined(weights))
            losses, gradient = self._probe.gradient(model, self.vectors.space)
            known = {"losses": losses, "scores": self.vectors.scores(gradient)}
            self.gradients += 1
            self._keep(f"scores-{key}", known)
            self._keep(f"losses-{key}", losses)
        scores: dict[str, dict[str, float]] = known["scores"]
        return scores

    def losses(self, weights: GroupWeights) -> dict[str, float]:
        """Mean loss of each target at this point."""
        key = self.point(weights)
        known = self._read(f"losses-{key}")
        if known is None:
            known = self._probe.losses(self.vectors.space.weights(self.vectors.combined(weights)))
            self._keep(f"losses-{key}", known)
        return known

    def point(self, weights: GroupWeights) -> str:
        """The same for the same model, whether its weights are written by group or for the whole."""
        groups = self.vectors.space.groups
        whole = weights.get(WHOLE, {})
        told = {
            group: sorted((name, round(weight, DIGITS)) for name, weight in weights.get(group, whole).items() if weight)
            for group in groups
        }
        return blake3(repr(told).encode()).hexdigest()[:24]

    def _read(self, name: str) -> dict | None:  # type: ignore[type-arg]  # two shapes, written below
        file = self._folder / f"{name}.json"
        return dict(json.loads(file.read_text())) if file.exists() else None

    def _keep(self, name: str, found: object) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        private = self._folder / f".{name}"
        private.write_text(json.dumps(found))
        private.rename(self._folder / f"{name}.json")


class PoolOracle:
    """``mergenode.selectors.contract.Oracle`` over one pool.

    ``factors``: candidate -> factor of its task vector; the vertices are those, and weights are told of those.
    """

    def __init__(self, measured: Measurements, factors: Mapping[str, float]) -> None:
        self._measured = measured
        self._factors = factors

    def coefficients(self, weights: GroupWeights) -> dict[str, dict[str, float]]:
        """Of the task vectors as they came."""
        return {
            group: {name: weight * self._factors[name] for name, weight in of_group.items()}
            for group, of_group in weights.items()
        }

    def scores(self, state: State, only: frozenset[str] | None = None) -> Scores:
        """a_i of the pool, or of ``only`` these."""
        found = self._measured.scores(self.coefficients(state.weights))
        return {
            name: {group: factor * value for group, value in found[name].items()}
            for name, factor in self._factors.items()
            if only is None or name in only
        }

    def losses(self, start: State, end: State, shares: Sequence[float]) -> Sequence[float]:
        """The mean over the targets at points of the line from ``start`` to ``end``."""
        return [mean_loss(self._measured.losses(self.coefficients(between(start, end, share)))) for share in shares]

    def distances(self, direction: GroupWeights) -> Mapping[str, float]:
        """Squared norms of combinations of task vectors, by group."""
        combined = self._measured.vectors.combined(self.coefficients(direction))
        parts = self._measured.vectors.space.groups
        return {
            group: float((combined if group == WHOLE else combined[parts[group]]).square().sum()) for group in direction
        }


def mean_loss(losses: Mapping[str, float]) -> float:
    """The objective from the losses of the targets."""
    return sum(losses.values()) / len(losses)


def between(start: State, end: State, share: float) -> dict[str, dict[str, float]]:
    """The weights at (1 - share) start + share end."""
    return {
        group: {
            name: (1.0 - share) * start.of(group).get(name, 0.0) + share * end.of(group).get(name, 0.0)
            for name in {*start.of(group), *end.of(group)}
        }
        for group in {*start.weights, *end.weights}
    }
