"""Contributions leave real statistics: subtracted or replayed, on real files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mergenode.adapters.engines.local.restate import LocalRestater
from mergenode.errors import RejectedError, RejectReason
from mergenode.ledger.restatement import Replay, Subtract
from mergenode.methods import METHODS, build_method
from mergenode.ports.restater import Restatement
from mergenode.types import Candidate, Head
from tests.support.local_node import SILENT, LocalNode, load_model, same_bits

RETRACTABLE = [name for name in METHODS if build_method(name, {}).retractable and not build_method(name, {}).needs]
EXACT = ("task_arithmetic", "average", "ties", "iso")
"""Methods whose statistics are sums of task vectors and nothing else."""
SHAPES = {
    "layers.0.up.weight": (24, 16),
    "layers.0.down.weight": (16, 24),
    "layers.0.norm.weight": (16,),
    "head.weight": (24, 16),
}


def write(folder: Path, tensors: dict[str, Tensor]) -> Path:
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def world(root: Path, *, exact: bool = False, count: int = 4) -> tuple[Path, list[Path]]:
    """A base and fine-tunes of it; ``exact``: every value is a small multiple of a power of two, so sums are exact."""

    def draw(shape: tuple[int, ...], seed: int, scale: float) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        if exact:
            return torch.randint(-8, 9, shape, generator=generator).float() * scale
        return torch.randn(shape, generator=generator) * scale

    base = {name: draw(shape, seed, 0.5) for seed, (name, shape) in enumerate(SHAPES.items())}
    models = []
    for number in range(count):
        step = 2.0**-6 if exact else 0.05
        tuned = {
            name: w + draw(tuple(w.shape), 100 * number + seed + 50, step)
            for seed, (name, w) in enumerate(base.items())
        }
        models.append(write(root / f"m{number}", tuned))
    return write(root / "base", base), models


def node_with(root: Path, base: Path, models: Sequence[Path], method: str) -> LocalNode:
    node = LocalNode(root, base, method)
    for path in models:
        node.fold(path)
    return node


def candidates(node: LocalNode, paths: Sequence[Path], folded: Sequence[Path]) -> tuple[Candidate, ...]:
    contents = {path: result.content for path, result in zip(folded, node.results, strict=False)}
    return tuple(Candidate("inbox", path.name, "1", str(path), content=contents[path], forced=True) for path in paths)


def commit(node: LocalNode, result: Restatement, count: int) -> None:
    generation = node.head.generation + 1
    node.generations.install(generation)
    node.generations.retire(generation)
    node.head = Head(generation, count, result.totals, result.statistics)


def furthest(left: dict[str, Tensor], right: dict[str, Tensor], base: dict[str, Tensor]) -> float:
    """The largest difference of a tensor, relative to its update."""
    wide = [{name: tensor.double() for name, tensor in model.items()} for model in (left, right, base)]
    return max(float((wide[0][name] - w).norm() / (w - wide[2][name]).norm()) for name, w in wide[1].items())


@pytest.mark.parametrize("method", RETRACTABLE)
def test_what_is_subtracted_leaves_the_merge_of_the_others(tmp_path: Path, method: str) -> None:
    base, models = world(tmp_path)
    node = node_with(tmp_path / "node", base, models, method)
    removed = candidates(node, [models[1], models[3]], models)
    commit(node, LocalRestater(node.engine).restate(Subtract(node.head, removed), SILENT), 2)
    other = node_with(tmp_path / "other", base, [models[0], models[2]], method)
    found, wanted = node.published(tmp_path / "a"), other.published(tmp_path / "b")
    assert furthest(found, wanted, load_model(base)) < 2e-6
    assert node.head.totals["count"] == 2.0


@pytest.mark.parametrize("method", EXACT)
def test_where_sums_are_exact_the_bytes_are_those_of_never_having_folded_it(tmp_path: Path, method: str) -> None:
    base, models = world(tmp_path, exact=True)
    node = node_with(tmp_path / "node", base, models, method)
    removed = candidates(node, [models[2]], models)
    commit(node, LocalRestater(node.engine).restate(Subtract(node.head, removed), SILENT), 3)
    other = node_with(tmp_path / "other", base, [models[0], models[1], models[3]], method)
    found, wanted = node.published(tmp_path / "a"), other.published(tmp_path / "b")
    assert all(same_bits(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("method", ["opcm", "task_arithmetic"])
def test_a_replay_is_bit_for_bit_that_of_a_node_that_never_folded_it(tmp_path: Path, method: str) -> None:
    base, models = world(tmp_path)
    node = node_with(tmp_path / "node", base, models, method)
    restater = LocalRestater(node.engine)
    stay = candidates(node, [models[0], models[2], models[3]], models)
    commit(node, restater.restate(Replay(Head(), stay), SILENT), 3)
    restater.clear()
    other = node_with(tmp_path / "other", base, [models[0], models[2], models[3]], method)
    assert node.head.statistics == other.head.statistics
    assert node.head.totals == other.head.totals
    found, wanted = node.published(tmp_path / "a"), other.published(tmp_path / "b")
    assert all(same_bits(found[name], wanted[name]) for name in wanted)
    assert not node.engine.folding.exists()
    assert not node.engine.folding.with_name("replaying").exists()


def test_a_replay_from_a_snapshot_gives_the_same_bits(tmp_path: Path) -> None:
    base, models = world(tmp_path)
    node = LocalNode(tmp_path / "node", base, "opcm")
    node.fold(models[0])
    snapshot = node.head
    for path in models[1:]:
        candidate = Candidate("inbox", path.name, "1", str(path))
        result = node.engine.fold(candidate, node.head, SILENT)
        node.generations.install(node.head.generation + 1)
        node.head = Head(node.head.generation + 1, node.head.count + 1, result.totals, result.statistics)
        node.results.append(result)
    stay = candidates(node, models[2:], models)
    result = LocalRestater(node.engine).restate(Replay(snapshot, stay), SILENT)
    other = node_with(tmp_path / "other", base, [models[0], *models[2:]], "opcm")
    assert (result.statistics, result.totals) == (other.head.statistics, other.head.totals)
    assert node.engine.generation_folder(1).is_dir(), "the snapshot is still there"


def test_nothing_left_is_the_base_and_the_next_fold_is_a_first_one(tmp_path: Path) -> None:
    base, models = world(tmp_path)
    node = node_with(tmp_path / "node", base, models[:2], "opcm")
    restater = LocalRestater(node.engine)
    commit(node, restater.restate(Replay(Head(), ()), SILENT), 0)
    restater.clear()
    published, weights = node.published(tmp_path / "a"), load_model(base)
    assert all(same_bits(published[name], weights[name]) for name in weights)
    node.fold(models[2])
    published, weights = node.published(tmp_path / "b"), load_model(models[2])
    assert all(same_bits(published[name], weights[name]) for name in weights)


@pytest.mark.parametrize("way", ["subtract", "replay"])
def test_a_file_that_was_replaced_since_is_refused(tmp_path: Path, way: str) -> None:
    base, models = world(tmp_path)
    node = node_with(tmp_path / "node", base, models, "task_arithmetic")
    named = candidates(node, [models[1]], models)
    (models[1] / "model.safetensors").write_bytes((models[2] / "model.safetensors").read_bytes())
    plan = Subtract(node.head, named) if way == "subtract" else Replay(Head(), named)
    with pytest.raises(RejectedError, match="now holds") as refused:
        LocalRestater(node.engine).restate(plan, SILENT)
    assert refused.value.reason is RejectReason.DIGEST_MISMATCH


def test_what_stopped_half_way_goes_on_where_it_was(tmp_path: Path) -> None:
    base, models = world(tmp_path)
    node = node_with(tmp_path / "node", base, models, "opcm")
    stay = candidates(node, models[1:], models)
    gone = models[3].rename(tmp_path / "away")
    restater = LocalRestater(node.engine)
    with pytest.raises(RejectedError):
        restater.restate(Replay(Head(), stay), SILENT)
    gone.rename(models[3])
    seen: list[str] = []

    class Listening(type(SILENT)):  # type: ignore[misc]  # the observer that tells nobody
        def message(self, level: str, text: str, **fields: object) -> None:
            seen.append(text)

    result = restater.restate(Replay(Head(), stay), Listening([]))
    assert [text for text in seen if text.startswith("replay")] == ["replay: 'm3', 3 of 3"]
    other = node_with(tmp_path / "other", base, models[1:], "opcm")
    assert result.statistics == other.head.statistics
