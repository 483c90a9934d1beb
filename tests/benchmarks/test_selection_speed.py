"""The arithmetic of the speed benchmark of selection, and that its pool is one of different models."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from benchmarks.selection.generated_pool import PoolShape, gradients, write_pool
from benchmarks.selection.speed import best, in_turn, unread
from mergenode.ports.pool import Estimate
from mergenode.types import Digest

SHAPE = PoolShape(width=16, layers=2)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-4, 4), st.floats(0, 0.1)), min_size=12, max_size=40))
def test_while_errors_are_within_their_bounds_the_short_list_holds_the_best(
    drawn: list[tuple[float, float, float]],
) -> None:
    truth = {Digest(f"d{i:02d}"): value for i, (value, _, _) in enumerate(drawn)}
    estimates = {
        content: Estimate(truth[content] + off * error, error)
        for content, (_, off, error) in zip(truth, drawn, strict=True)
    }
    exact: dict[Digest, float] = {}
    rounds = 0
    while wanted := unread(estimates, exact, 10):
        assert not exact.keys() & set(wanted)
        exact |= {content: truth[content] for content in wanted}
        rounds += 1
    assert [truth[content] for content in best(exact, 10)] == [truth[content] for content in best(truth, 10)]
    assert rounds <= 2


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
