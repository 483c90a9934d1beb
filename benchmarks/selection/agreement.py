"""Whether the code of mergenode takes the steps of the literal algorithm, on the real model and the real pool."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from benchmarks.selection.experts import folder
from benchmarks.selection.literal import BASE, frank_wolfe
from benchmarks.selection.oracle import Measurements, PoolOracle
from benchmarks.selection.plan import FIRST, HARD, WORST
from benchmarks.selection.probe import Probe
from benchmarks.selection.suite import universe
from benchmarks.selection.vectors import Vectors, open_space
from mergenode.adapters.checkpoints.base import describe_base
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.weights import open_weights
from mergenode.adapters.engines.local.pool.engine import LocalPool
from mergenode.selectors.contract import WHOLE, State
from mergenode.selectors.running import run
from mergenode.types import Candidate


def compare_all(work: Path, seed: int, say: Callable[[str], None]) -> None:
    """Both comparisons, into ``work/agreement.json``."""
    found = {"steps": compare(work, seed, say), "streamed": compare_streamed(work, seed, say)}
    (work / "agreement.json").write_text(json.dumps(found, indent=1))


def compare(work: Path, seed: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Both algorithms from the base on the pool of four. By layer group: tests, on small vectors."""
    space = open_space(work / "base")
    vectors = Vectors(space, folder(work), universe(seed))
    probe = Probe(work / "base", seed)
    measured = Measurements(work / "points" / f"seed-{seed}", probe, vectors)
    names = [candidate.name for candidate in FIRST.members(seed)]
    taken = {name: vectors.source(name) for name in names}

    def gradient(theta: Tensor) -> Tensor:
        return probe.gradient(space.weights(theta), space)[1]

    told = []
    for row in (HARD,):
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


def compare_streamed(work: Path, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Scores that the pool engine streams from files against those of vectors in memory, at the base."""
    space = open_space(work / "base")
    candidates = {candidate.name: candidate for candidate in WORST.members(seed)}
    vectors = Vectors(space, folder(work), universe(seed))
    slope = Probe(work / "base", seed).gradient(space.base, space)[1]
    in_memory = vectors.scores(slope)
    files = work / "files" / f"seed-{seed}"
    files.mkdir(parents=True, exist_ok=True)
    _write(files / "gradient.safetensors", space.unflatten(slope))
    for name, candidate in candidates.items():
        made = space.weights(vectors.source(name).double() * candidate.factor)
        _write(files / _slug(name) / "model.safetensors", made)
    base = describe_base(work / "base", limits=Limits(), progress=lambda done, total: None)
    pool = LocalPool(base=base, open_base=lambda: open_weights(work / "base"), folder=files / "index")
    asked = [Candidate("pool", name, "", str(files / _slug(name))) for name in candidates]
    started = time.process_time()
    contents = {pool.index(candidate).content: candidate.name for candidate in asked}
    indexed = time.process_time()
    scores = pool.scores(files / "gradient.safetensors", asked).scores
    scored = time.process_time()
    estimates = pool.estimates(files / "gradient.safetensors")
    exact = {contents[content]: groups[WHOLE] for content, groups in scores.items()}
    length = {name: vectors.norm(name) * float(slope.double().norm()) for name in candidates}
    told = {
        "seed": seed,
        "candidates": len(asked),
        "cpu_index": indexed - started,
        "cpu_scores": scored - indexed,
        "largest_difference": max(
            abs(exact[name] - sum(in_memory[name].values())) / length[name] for name in candidates
        ),
        "sketch_errors_beyond_3": sum(
            abs(estimate.value - exact[contents[content]]) > 3 * estimate.error
            for content, estimate in estimates.items()
        ),
    }
    shutil.rmtree(files)
    say(f"{told}")
    return told


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    path.parent.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})


def _slug(name: str) -> str:
    return name.replace("*", "-times-")
