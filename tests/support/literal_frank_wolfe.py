"""Frank-Wolfe as papers write it, on vectors: a list of atoms, theta carried along, every direction in full."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def literal(
    atoms: list[Vector],
    gradient: Callable[[Vector], Vector],
    step: Callable[[int, float, Vector, float], float],
    *,
    variant: str,
    rounds: int,
) -> list[tuple[Vector, Vector, float]]:
    """The iterates from atom 0 on: (theta, weight of each atom, gap at theta), before each round and after the last.

    Jaggi 2013 algorithm 1 (``plain``); Lacoste-Julien and Jaggi 2015 algorithm 1 (``away``), algorithm 2
    (``pairwise``). ``step(t, -<g, d>, d, gamma_max)`` is the step size. Ties: the first atom.
    """
    theta, weights = atoms[0].copy(), np.eye(len(atoms))[0]
    path = []
    for number in range(rounds + 1):
        g = gradient(theta)
        values = np.array([g @ atom for atom in atoms])
        s = int(values.argmin())
        gap = float(g @ theta - values[s])
        path.append((theta.copy(), weights.copy(), gap))
        if number == rounds or gap <= 0.0:
            break
        active = [i for i in range(len(atoms)) if weights[i] > 0.0]
        v = max(active, key=lambda i: values[i])
        toward, away = atoms[s] - theta, theta - atoms[v]
        if variant == "pairwise":
            direction, gamma_max = atoms[s] - atoms[v], weights[v]
        elif variant == "plain" or -(g @ toward) >= -(g @ away):
            direction, gamma_max = toward, 1.0
        else:
            direction, gamma_max = away, weights[v] / (1.0 - weights[v])
        gamma = step(number, float(-(g @ direction)), direction, gamma_max)
        theta = theta + gamma * direction
        if direction is toward:
            weights = (1.0 - gamma) * weights
            weights[s] += gamma
        elif direction is away:
            weights = (1.0 + gamma) * weights
            weights[v] -= gamma
        else:
            weights[s] += gamma
            weights[v] -= gamma
        if gamma == gamma_max and direction is not toward:
            weights[v] = 0.0  # a drop step
    return path
