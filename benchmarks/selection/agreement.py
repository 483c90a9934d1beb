"""Whether the code of mergenode takes the steps of the literal algorithm, on the real model and the real pool."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.selection.experts import folder
from benchmarks.selection.literal import BASE, frank_wolfe
from benchmarks.selection.oracle import Measurements, PoolOracle
from benchmarks.selection.plan import FIRST, HARD, HARD_GROUPS
from benchmarks.selection.probe import Probe
from benchmarks.selection.suite import universe
from benchmarks.selection.vectors import Vectors, open_space
from mergenode.selectors.contract import WHOLE, State
from mergenode.selectors.running import run


def compare(work: Path, seed: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Both algorithms from the base on the pool of four, for the whole model and by layer group."""
    space = open_space(work / "base")
    vectors = Vectors(space, folder(work), universe(seed))
    probe = Probe(work / "base", seed)
    measured = Measurements(work / "points" / f"seed-{seed}", probe, vectors)
    names = [candidate.name for candidate in FIRST.members(seed)]
    taken = {name: vectors.source(name) for name in names}

    def gradient(theta: Tensor) -> Tensor:
        return probe.gradient(space.weights(theta), space)[1]

    told = []
    for row in (HARD, HARD_GROUPS):
        ours = run(State(), PoolOracle(measured, dict.fromkeys(names, 1.0)), row.options)
        groups = dict(space.groups) if row.options.by_group else {WHOLE: slice(None)}
        theta, steps, weights = frank_wolfe(taken, groups, gradient, row.options.rounds)
        result = vectors.combined(ours.state.weights)
        same = [
            all(move.toward == step.chosen[group] for group, move in part.proposal.moves.items())
            for part, step in zip(ours.rounds, steps, strict=True)
        ]
        told.append(
            {
                "row": row.label,
                "seed": seed,
                "same_choice": same,
                "largest_gap_difference": max(
                    abs(part.proposal.gap - step.gap) for part, step in zip(ours.rounds, steps, strict=True)
                ),
                "largest_weight_difference": max(
                    abs(weight - ours.state.of(group).get(name, 0.0))
                    for group, of_group in weights.items()
                    for name, weight in of_group.items()
                    if name != BASE
                ),
                "relative_difference": float((result - theta).norm() / theta.norm()),
            }
        )
        say(f"{told[-1]}")
    return told
