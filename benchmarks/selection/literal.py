"""Frank-Wolfe as it is written in books: explicit vertices in memory, <g, theta_i - theta>, theta moved by axpy.

The slow and obvious counterpart of the code of mergenode, which knows inner products only. Float64 throughout; the
gradient is asked for at float32 weights, as it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

BASE = "base"


@dataclass(frozen=True, slots=True)
class Step:
    """``chosen``: by group. ``gap``: max_i <g, theta - theta_i>, summed over groups."""

    chosen: Mapping[str, str]
    gap: float


def frank_wolfe(
    vertices: Mapping[str, Tensor],
    groups: Mapping[str, slice],
    gradient: Callable[[Tensor], Tensor],
    rounds: int,
) -> tuple[Tensor, list[Step], dict[str, dict[str, float]]]:
    """``rounds`` steps of 2 / (t + 2) from the base, in every group by itself (one group: the whole model).

    ``vertices``: task vectors, flat; the base is the zero vector and always among them. ``gradient`` is given theta as
    a task vector. Returns theta, the steps, and barycentric weights, which play no part in the computation.
    """
    corners = {BASE: next(iter(vertices.values())).double() * 0.0}
    corners |= {name: vector.double() for name, vector in vertices.items()}
    theta = corners[BASE].clone()
    weights: dict[str, dict[str, float]] = {group: {BASE: 1.0} for group in groups}
    steps: list[Step] = []
    for number in range(rounds):
        slope = gradient(theta).double()
        chosen, gap = {}, 0.0
        for group, part in groups.items():
            scores = {name: float(slope[part] @ (corner[part] - theta[part])) for name, corner in corners.items()}
            chosen[group] = min(scores, key=lambda name: scores[name])
            gap -= scores[chosen[group]]
        steps.append(Step(chosen, gap))
        gamma = 2.0 / (number + 2.0)
        for group, part in groups.items():
            theta[part] += gamma * (corners[chosen[group]][part] - theta[part])
            moved = {name: (1.0 - gamma) * weight for name, weight in weights[group].items()}
            moved[chosen[group]] = moved.get(chosen[group], 0.0) + gamma
            weights[group] = {name: weight for name, weight in moved.items() if weight > 0.0}
    return theta, steps, weights
