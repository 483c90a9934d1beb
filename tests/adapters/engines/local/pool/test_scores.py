"""Scores of files are inner products of vectors, whatever the files look like and however they are cut."""

from __future__ import annotations

import json
import os
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mergenode.adapters.engines.local.pool import engine, task_vector
from mergenode.adapters.engines.local.pool.parts import Part
from mergenode.adapters.engines.local.pool.task_vector import TaskVector
from mergenode.errors import TransientError, TransientReason
from mergenode.ports.engine import Stopped
from mergenode.ports.pool import WHOLE
from tests.support.models import EMBEDDING, HEAD, factors, fine_tune, write_lora
from tests.support.pools import Pool, gradient_of, literal_norm, literal_scores, small_parts


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pool:
    small_parts(monkeypatch)
    return Pool(tmp_path)


def agree(found: dict[str, float], wanted: dict[str, float], scale: float) -> None:
    assert found.keys() == wanted.keys()
    for group, value in wanted.items():
        assert found[group] == pytest.approx(value, rel=0, abs=1e-10 * scale), group


def scale_of(pool: Pool, tuned: dict[str, torch.Tensor]) -> float:
    norm = sum(float(values.double().square().sum()) for values in load_file(pool.gradient).values()) ** 0.5
    return norm * literal_norm(pool.base, tuned)


@pytest.mark.parametrize("ratio", [0.2, 1e-5])
@pytest.mark.parametrize("shards", [1, 3])
def test_scores_are_those_of_the_slow_sum(pool: Pool, shards: int, ratio: float) -> None:
    candidate = pool.tuned(1, shards=shards, ratio=ratio)
    tuned = fine_tune(pool.base, 1, ratio=ratio)
    found = pool.engine.scores(pool.gradient, [candidate])
    assert found.unreadable == ()
    content = pool.engine.index(candidate).content
    wanted = literal_scores(pool.base, tuned, load_file(pool.gradient))
    agree(dict(found.scores[content]), wanted, scale_of(pool, tuned))


def test_an_adapter_scores_like_its_dense_form(pool: Pool) -> None:
    modules = ["layers.0.attn.q_proj", "layers.0.mlp.up_proj", "layers.0.mlp.down_proj", "layers.1.exact"]
    pairs = factors(modules, {name: tuple(values.shape) for name, values in pool.base.items()}, 3)
    candidate = pool.at(write_lora(pool.root / "lora", pairs))
    dense = {name: values.double() for name, values in pool.base.items() if values.is_floating_point()}
    for module in modules:
        left, right = (pairs[f"base_model.model.{module}.lora_{side}.weight"].double() for side in "BA")
        dense[f"{module}.weight"] = dense[f"{module}.weight"] + 2.0 * (left @ right)
    [scores] = pool.engine.scores(pool.gradient, [candidate]).scores.values()
    tuned = {name: dense.get(name, values) for name, values in pool.base.items()}
    agree(dict(scores), literal_scores(pool.base, tuned, load_file(pool.gradient)), scale_of(pool, tuned))
    assert scores["vision"] == 0.0 and scores["layers.0"] != 0.0


def test_factors_are_cut_where_they_are_large(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = {name: tuple(values.shape) for name, values in pool.base.items()}
    pairs = factors(["layers.0.mlp.down_proj", "layers.0.mlp.narrow"], shapes, 4, rank=7)
    candidate = pool.at(write_lora(pool.root / "lora", pairs, rank=7))
    before = pool.engine.scores(pool.gradient, [candidate])
    monkeypatch.setattr(task_vector, "_BLOCK_ELEMENTS", 100)
    after = pool.engine.scores(pool.gradient, [candidate])
    [first], [second] = before.scores.values(), after.scores.values()
    assert first == pytest.approx(second, rel=1e-12)


def test_factors_that_are_stored_the_other_way_round(pool: Pool) -> None:
    module = EMBEDDING.removesuffix(".weight")
    draw = torch.Generator().manual_seed(0)
    left, right = torch.randn(48, 4, generator=draw), torch.randn(4, 32, generator=draw)
    pairs = {  # an embedding: the delta is (B @ A) transposed
        f"base_model.model.{module}.lora_embedding_A": left.T.contiguous(),
        f"base_model.model.{module}.lora_embedding_B": right.T.contiguous(),
    }
    path = write_lora(pool.root / "lora", pairs)
    settings = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps(settings | {"target_modules": ["embed_tokens"]}))
    tuned = pool.base | {EMBEDDING: pool.base[EMBEDDING].double() + 2 * (left.double() @ right.double())}
    [scores] = pool.engine.scores(pool.gradient, [pool.at(path)]).scores.values()
    wanted = literal_scores(pool.base, tuned, load_file(pool.gradient))
    assert scores[WHOLE] == pytest.approx(wanted[WHOLE], rel=1e-12)


def test_batches_change_nothing(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = [pool.tuned(seed) for seed in range(7)]
    whole = pool.engine.scores(pool.gradient, candidates)
    assert len(whole.scores) == 7
    for size in (1, 3, 7):
        monkeypatch.setattr(engine, "BATCH", size)
        assert pool.engine.scores(pool.gradient, candidates) == whole
    monkeypatch.setattr(engine, "_DESCRIPTORS", 1)
    assert pool.engine.scores(pool.gradient, candidates) == whole


def test_a_content_that_lies_there_twice_has_one_score(pool: Pool) -> None:
    first = pool.add("first", fine_tune(pool.base, 1))
    second = pool.add("second", fine_tune(pool.base, 1), shards=2)
    assert len(pool.engine.scores(pool.gradient, [first, second, first]).scores) == 1


def test_the_base_itself_scores_nothing(pool: Pool) -> None:
    [scores] = pool.engine.scores(pool.gradient, [pool.add("same", pool.base)]).scores.values()
    assert set(scores.values()) == {0.0}


def test_a_tensor_without_gradient_counts_nothing(pool: Pool) -> None:
    tuned = fine_tune(pool.base, 1)
    some = {"layers.0.norm.weight": gradient_of(pool.base, 1)["layers.0.norm.weight"]}
    [scores] = pool.engine.scores(pool.write_gradient(some, "some"), [pool.add("one", tuned)]).scores.values()
    assert scores == pytest.approx(literal_scores(pool.base, tuned, some), rel=1e-12)


def test_a_tied_weight_has_the_sum_of_the_gradients_of_its_names(pool: Pool) -> None:
    candidate = pool.tuned(1)
    halves = gradient_of(pool.base, 1)
    whole = dict(halves)
    halves[HEAD], halves[EMBEDDING] = whole[EMBEDDING] * 0.25, whole[EMBEDDING] * 0.75
    [first] = pool.engine.scores(pool.write_gradient(halves, "halves"), [candidate]).scores.values()
    [second] = pool.engine.scores(pool.write_gradient(whole, "whole"), [candidate]).scores.values()
    assert first == pytest.approx(second, rel=1e-6)
    under_the_second_name = {HEAD: whole[EMBEDDING]}
    [third] = pool.engine.scores(pool.write_gradient(under_the_second_name, "other"), [candidate]).scores.values()
    assert third[WHOLE] == second["model.embed_tokens"]


def test_a_candidate_that_cannot_be_read_does_not_harm_the_others(pool: Pool) -> None:
    good = [pool.tuned(seed) for seed in range(3)]
    nan = fine_tune(pool.base, 8)
    nan["layers.0.norm.weight"][5] = float("nan")
    missing = dict(fine_tune(pool.base, 9))
    del missing["layers.0.norm.weight"]
    bad = [pool.add("nan", nan), pool.add("missing", missing), pool.at(pool.root / "nowhere")]
    found = pool.engine.scores(pool.gradient, [bad[0], good[0], bad[1], good[1], bad[2], good[2]])
    assert found.scores == pool.engine.scores(pool.gradient, good).scores and len(found.scores) == 3
    reasons = {item.candidate.name: (item.reason, item.transient) for item in found.unreadable}
    assert reasons == {
        "nan": ("not_finite", False), "missing": ("tensor_missing", False), "nowhere": ("vanished", True),
    }  # fmt: skip
    assert "layers.0.norm.weight" in found.unreadable[0].message


def test_a_candidate_that_breaks_after_it_was_indexed_is_named(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = pool.tuned(1), pool.tuned(2)
    pool.engine.index(good)
    pool.engine.index(bad)
    wanted = pool.engine.scores(pool.gradient, [good]).scores
    real = TaskVector.read

    def read(vector: TaskVector, part: Part, *rest: Any) -> Any:
        if vector.label == "tuned-2" and part.spec.name == "layers.0.mlp.up_proj.weight":
            raise TransientError(TransientReason.READ_FAILED, "the disk says no")
        return real(vector, part, *rest)

    monkeypatch.setattr(TaskVector, "read", read)
    found = pool.engine.scores(pool.gradient, [bad, good])
    assert found.scores == wanted
    assert [(item.candidate.name, item.reason) for item in found.unreadable] == [("tuned-2", "read_failed")]


def test_a_candidate_that_changes_during_the_pass_has_no_score(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = pool.tuned(1), pool.tuned(2)
    for candidate in (good, bad):
        pool.engine.index(candidate)
    real = engine.ScoringPass.run

    def run(work: engine.ScoringPass, batch: Any) -> None:
        real(work, batch)
        os.utime(Path(bad.location) / "model.safetensors", ns=(1, 1))

    monkeypatch.setattr(engine.ScoringPass, "run", run)
    found = pool.engine.scores(pool.gradient, [bad, good])
    assert len(found.scores) == 1
    assert [(item.candidate.name, item.reason) for item in found.unreadable] == [("tuned-2", "changed_while_reading")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"surplus": torch.zeros(3)}, "no weight of this name"),
        ({"position_ids": torch.zeros(1, 16)}, "no weight of this name"),
        ({"layers.0.norm.weight": torch.zeros(31)}, "the base has [32]"),
        ({"layers.0.norm.weight": torch.zeros(32, dtype=torch.int64)}, "is I64"),
        ({"layers.0.norm.weight": torch.full((32,), float("inf"))}, "not finite"),
    ],
)
def test_a_gradient_that_does_not_fit_is_the_plugins_fault(pool: Pool, change: Any, said: str) -> None:
    candidate = pool.tuned(1)
    pool.engine.index(candidate)
    path = pool.write_gradient(gradient_of(pool.base, 0) | change, "odd")
    for ask in (lambda: pool.engine.scores(path, [candidate]), lambda: pool.engine.estimates(path)):
        with pytest.raises(TransientError) as caught:
            ask()
        assert caught.value.reason is TransientReason.TASK_FAILED and said in caught.value.message


def test_a_file_that_is_no_gradient(pool: Pool) -> None:
    (pool.root / "odd.safetensors").write_bytes(b"nothing")
    with pytest.raises(TransientError) as caught:
        pool.engine.scores(pool.root / "odd.safetensors", [])
    assert caught.value.reason is TransientReason.TASK_FAILED


def test_work_is_put_down_when_the_node_stops(pool: Pool) -> None:
    with pytest.raises(Stopped):
        replace(pool.engine, stop=lambda: True).scores(pool.gradient, [pool.tuned(1)])


def test_a_base_that_breaks_is_the_nodes_affair(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = pool.tuned(1)
    pool.engine.index(candidate)
    weights = pool.root / "base" / "model.safetensors"
    real = engine.ScoringPass.run

    def run(work: engine.ScoringPass, batch: Any) -> None:
        os.truncate(weights, weights.stat().st_size - 4000)
        real(work, batch)

    monkeypatch.setattr(engine.ScoringPass, "run", run)
    with pytest.raises(TransientError) as caught:
        pool.engine.scores(pool.gradient, [candidate])
    assert caught.value.of_node


def test_memory_and_descriptors_do_not_grow_with_the_pool(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held while a candidate is computed: at most what a few stretches take, whatever the number."""
    monkeypatch.setattr(engine, "BATCH", 4)
    candidates = [pool.tuned(seed) for seed in range(10)]
    for candidate in candidates:
        pool.engine.index(candidate)
    most = {"values": 0, "open": 0}
    real_run, real_read = engine.ScoringPass.run, TaskVector.read
    alive: list[weakref.ref[Any]] = []

    def read(vector: TaskVector, part: Part, *rest: Any) -> Any:
        values = real_read(vector, part, *rest)
        alive.append(weakref.ref(values))
        alive[:] = [item for item in alive if item() is not None]
        most["values"] = max(most["values"], sum(item().numel() for item in alive if item() is not None))
        return values

    def run(work: engine.ScoringPass, batch: Any) -> None:
        most["open"] = max(most["open"], len(os.listdir("/proc/self/fd")))
        real_run(work, batch)

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(TaskVector, "read", read)
    monkeypatch.setattr(engine.ScoringPass, "run", run)
    assert len(pool.engine.scores(pool.gradient, candidates).scores) == 10
    assert most["open"] <= before + 4 + 3  # the batch, gradient, base, and the directory that is listed
    assert most["values"] <= 6 * 160  # stretches in flight
    assert len(os.listdir("/proc/self/fd")) == before
