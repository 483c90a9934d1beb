"""The arithmetic of the speed benchmark of selection, and that its pool is one of different models."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from benchmarks.selection.generated_pool import PoolShape, gradients, write_pool
from benchmarks.selection.speed import in_turn

SHAPE = PoolShape(width=16, layers=2)


def test_the_cache_is_prepared_before_every_action() -> None:
    calls: list[str] = []
    actions = {name: lambda name=name: calls.append(name) for name in "ab"}
    samples = in_turn(actions, lambda: calls.append("-"), 2)
    assert "".join(calls) == "-a-b" * 3 and all(len(times) == 2 for times in samples.values())


def test_every_model_of_the_pool_differs_and_scores_are_spread(tmp_path: Path) -> None:
    paths = write_pool(tmp_path, SHAPE, count=8, seed=0)
    weights = [(path / "model.safetensors").read_bytes() for path in paths]
    assert len(set(weights)) == 8
    assert [
        (path / "model.safetensors").read_bytes() for path in write_pool(tmp_path, SHAPE, count=8, seed=0)
    ] == weights
    (paths[0] / "model.safetensors").unlink()
    write_pool(tmp_path, SHAPE, count=8, seed=0)
    assert (paths[0] / "model.safetensors").read_bytes() == weights[0]
    made = [load_file(path) for path in gradients(tmp_path, SHAPE, seed=0, count=2)]
    assert made[0].keys() == {"layers.0.weight", "layers.1.weight"}
    assert not made[0]["layers.0.weight"].equal(made[1]["layers.0.weight"])
