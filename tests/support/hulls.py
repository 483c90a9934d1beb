"""Convex objectives over the hull of a base and a few vectors: the world of a selector, small enough to be exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum

import numpy as np
from numpy.typing import NDArray

from mergenode.selectors.contract import BASE, WHOLE, Scores, State, Weights, base_weight

Vector = NDArray[np.float64]


@dataclass
class Quadratic:
    """f(theta) = 1/2 (theta - target)^T H (theta - target), H = diag(``curvatures``): an oracle for selectors.

    ``groups``: name -> the coordinates of the group. ``calls``: what was asked, for tests of what is read.
    """

    base: Vector
    taus: dict[str, Vector]
    target: Vector
    curvatures: Vector
    groups: Mapping[str, slice] = field(default_factory=lambda: {WHOLE: slice(None)})
    calls: list[tuple[str, object]] = field(default_factory=list)

    @property
    def smoothness(self) -> float:
        return float(self.curvatures.max())

    def theta(self, weights: Weights) -> Vector:
        theta = self.base.copy()
        for group, of_group in weights.items():
            part = slice(None) if group == WHOLE else self.groups[group]
            theta[part] += self._sum(of_group)[part]
        return theta

    def _sum(self, factors: Mapping[str, float]) -> Vector:
        """sum_i c_i tau_i, exactly rounded: names and their order change no bit."""
        rows = [factor * self.taus[vertex] for vertex, factor in factors.items()]
        return np.array([fsum(column) for column in zip(*rows, strict=True)]) if rows else np.zeros_like(self.base)

    def value(self, theta: Vector) -> float:
        return float(0.5 * np.sum(self.curvatures * (theta - self.target) ** 2))

    def gradient(self, theta: Vector) -> Vector:
        return self.curvatures * (theta - self.target)

    def scores(self, state: State, only: frozenset[str] | None = None) -> Scores:
        self.calls.append(("scores", only))
        gradient = self.gradient(self.theta(state.weights))
        return {
            vertex: {group: float(gradient[part] @ tau[part]) for group, part in self.groups.items()}
            for vertex, tau in self.taus.items()
            if only is None or vertex in only
        }

    def losses(self, start: State, end: State, shares: Sequence[float]) -> Sequence[float]:
        self.calls.append(("losses", tuple(shares)))
        here, there = self.theta(start.weights), self.theta(end.weights)
        return [self.value((1.0 - share) * here + share * there) for share in shares]

    def distances(self, direction: Weights) -> Mapping[str, float]:
        self.calls.append(("distances", tuple(direction)))
        found = {}
        for group, of_group in direction.items():
            part = slice(None) if group == WHOLE else self.groups[group]
            found[group] = float(np.sum(self._sum(of_group)[part] ** 2))
        return found

    def at(self, state: State) -> float:
        return self.value(self.theta(state.weights))

    def diameter(self) -> float:
        points = [np.zeros_like(self.base), *self.taus.values()]
        return max(float(np.linalg.norm(one - other)) for one in points for other in points)

    def curvature_constant(self) -> float:
        """An upper bound of C of the theory: L diam^2."""
        return self.smoothness * self.diameter() ** 2


def quadratic(
    seed: int,
    *,
    vertices: int = 6,
    size: int = 8,
    target: str = "inside",
    condition: float = 4.0,
    groups: Mapping[str, slice] | None = None,
) -> Quadratic:
    """A random one. ``target``: ``inside`` the hull, in a ``face`` of three vertices without the base (so min f = 0
    in both), or ``outside``, pushed out of the hull through that face."""
    draw = np.random.default_rng(seed)
    base = draw.normal(size=size)
    taus = {f"{digit:02x}{draw.integers(16**6):06x}": draw.normal(size=size) for digit in range(vertices)}
    points = np.array([np.zeros(size), *taus.values()])
    inside = draw.dirichlet(np.full(vertices + 1, 2.0)) @ points
    face = draw.dirichlet(np.full(3, 4.0)) @ points[1:4]
    optimum = {"inside": inside, "face": face, "outside": inside + 1.5 * (face - inside)}[target]
    curvatures = np.exp(np.linspace(0.0, np.log(condition), size))
    return Quadratic(base, taus, base + optimum, curvatures, groups or {WHOLE: slice(None)})


def barycentric(state: State, group: str = WHOLE) -> dict[str, float]:
    """All weights of a group, the base's too."""
    return {BASE: base_weight(state.of(group)), **state.of(group)}
