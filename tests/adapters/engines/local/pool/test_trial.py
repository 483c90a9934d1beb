"""A trial model is the combination of the tensors, written like any checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mergenode.adapters.checkpoints.weights import open_weights
from mergenode.adapters.engines.local.pool import trial
from mergenode.adapters.tasks.loading import load_weights
from mergenode.errors import RejectedError, RejectReason, TransientError, TransientReason
from mergenode.ledger.groups import layer_group
from mergenode.ports.pool import WHOLE
from mergenode.types import Digest, DType
from tests.support.killed_calls import Killed, KilledCalls
from tests.support.models import EMBEDDING, HEAD, densified, factors, fine_tune, write_lora
from tests.support.pools import Pool, small_parts


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pool:
    small_parts(monkeypatch)
    return Pool(tmp_path)


def indexed(pool: Pool, count: int) -> list[Digest]:
    return [pool.engine.index(pool.tuned(seed)).content for seed in range(count)]


def literal(base: Mapping[str, Tensor], parts: list[tuple[Mapping[str, Tensor], float]]) -> dict[str, Tensor]:
    found = {}
    for name, values in base.items():
        found[name] = values
        if values.is_floating_point():
            total = values.double().clone()
            for tuned, weight in parts:
                total += weight * (tuned[name].double() - values.double())
            found[name] = total if values.dtype is torch.float64 else total.float()
    return found


def written(directory: Path) -> dict[str, Tensor]:
    return load_file(directory / "model.safetensors")


def same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert found[name].dtype is values.dtype, name
        if values.is_floating_point():
            torch.testing.assert_close(found[name], values, rtol=1e-6, atol=1e-9)
        else:
            assert torch.equal(found[name], values)


def test_it_is_the_weighted_sum_of_the_task_vectors(pool: Pool) -> None:
    first, second, _ = indexed(pool, 3)
    pool.engine.trial({WHOLE: {first: 0.25, second: 0.5}}, pool.root / "trial")
    tuned = [fine_tune(pool.base, seed) for seed in range(2)]
    found = written(pool.root / "trial")
    same(found, literal(pool.base, [(tuned[0], 0.25), (tuned[1], 0.5)]))
    assert torch.equal(found[HEAD], found[EMBEDDING])


def test_a_vertex_is_its_checkpoint_and_none_is_the_base(pool: Pool) -> None:
    [only] = indexed(pool, 1)
    pool.engine.trial({WHOLE: {only: 1.0}}, pool.root / "vertex")
    same(written(pool.root / "vertex"), literal(fine_tune(pool.base, 0), []))
    for weights in ({}, {WHOLE: {}}, {WHOLE: {only: 0.0, pool.described.digest: 1.0}}):
        pool.engine.trial(weights, pool.root / "base-again")
        same(written(pool.root / "base-again"), literal(pool.base, []))


def test_weights_of_a_layer_group_stand_above_those_of_the_whole(pool: Pool) -> None:
    first, second = indexed(pool, 2)
    weights = {WHOLE: {first: 1.0}, "layers.0": {second: 0.5}, "vision": {}}
    pool.engine.trial(weights, pool.root / "trial")
    tuned = [fine_tune(pool.base, seed) for seed in range(2)]
    whole, block, base = (literal(pool.base, parts) for parts in ([(tuned[0], 1.0)], [(tuned[1], 0.5)], []))
    wanted = {"layers.0": block, "vision": base}
    same(written(pool.root / "trial"), {name: wanted.get(layer_group(name), whole)[name] for name in whole})


def test_adapters_enter_as_their_product(pool: Pool) -> None:
    modules = ["layers.0.attn.q_proj", "layers.0.mlp.up_proj"]
    pairs = factors(modules, {name: tuple(values.shape) for name, values in pool.base.items()}, 3)
    adapter = pool.engine.index(pool.at(write_lora(pool.root / "lora", pairs))).content
    [full] = indexed(pool, 1)
    pool.engine.trial({WHOLE: {adapter: 0.5, full: 0.5}}, pool.root / "trial")
    dense = densified(pool.base, pairs)
    same(written(pool.root / "trial"), literal(pool.base, [(dense, 0.5), (fine_tune(pool.base, 0), 0.5)]))


def test_the_task_worker_loads_it(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    shapes = {"0.weight": (4, 3), "0.bias": (4,), "1.weight": (2, 4), "1.bias": (2,)}
    pool = Pool(tmp_path, base={name: torch.randn(shape, generator=draw) for name, shape in shapes.items()})
    [only] = indexed(pool, 1)
    pool.engine.trial({WHOLE: {only: 0.5}}, tmp_path / "trial")
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    load_weights(model, tmp_path / "trial")
    wanted = literal(pool.base, [(fine_tune(pool.base, 0), 0.5)])
    torch.testing.assert_close(model.state_dict(), wanted, rtol=1e-6, atol=1e-9)


def test_it_has_the_type_that_was_asked_for(pool: Pool) -> None:
    [only] = indexed(pool, 1)
    replace(pool.engine, trial_dtype=DType.BF16).trial({WHOLE: {only: 0.5}}, pool.root / "trial")
    wanted = literal(pool.base, [(fine_tune(pool.base, 0), 0.5)])
    for name, values in written(pool.root / "trial").items():
        kind = torch.bfloat16 if wanted[name].is_floating_point() else wanted[name].dtype
        assert torch.equal(values, wanted[name].to(kind)), name


def test_more_candidates_than_descriptors(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "PART_ELEMENTS", 1 << 10)
    contents = indexed(pool, 5)
    weights = {WHOLE: {content: 0.1 * number for number, content in enumerate(contents, 1)}}
    pool.engine.trial(weights, pool.root / "trial")
    before = (pool.root / "trial" / "model.safetensors").read_bytes()
    monkeypatch.setattr(trial.OpenVectors.__init__, "__defaults__", (2, *trial.OpenVectors.__init__.__defaults__[1:]))
    pool.engine.trial(weights, pool.root / "trial")
    assert (pool.root / "trial" / "model.safetensors").read_bytes() == before


def test_what_was_there_is_gone(pool: Pool) -> None:
    (pool.root / "trial").mkdir()
    (pool.root / "trial" / "old.safetensors").write_bytes(b"old")
    pool.engine.trial({}, pool.root / "trial")
    assert [path.name for path in (pool.root / "trial").iterdir()] == ["model.safetensors"]


def test_a_content_that_is_not_known_is_named(pool: Pool) -> None:
    unknown = Digest("blake3:" + "0" * 64)
    with pytest.raises(RejectedError) as caught:
        pool.engine.trial({WHOLE: {unknown: 1.0}}, pool.root / "trial")
    assert caught.value.reason is RejectReason.GONE and unknown in caught.value.message


def test_a_candidate_that_was_written_to_is_not_used(pool: Pool) -> None:
    candidate = pool.tuned(0)
    content = pool.engine.index(candidate).content
    save_file(fine_tune(pool.base, 9), Path(candidate.location) / "model.safetensors")
    with pytest.raises(TransientError) as caught:
        pool.engine.trial({WHOLE: {content: 1.0}}, pool.root / "trial")
    assert caught.value.reason is TransientReason.CHANGED_WHILE_READING


def test_a_trial_that_was_killed_is_never_taken_for_a_whole_one(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "PART_ELEMENTS", 1 << 12)
    first, second = indexed(pool, 2)
    place, file = pool.root / "trial", pool.root / "trial" / "model.safetensors"
    whole = []
    for content in (first, second):
        calls = KilledCalls()
        with calls.installed():
            pool.engine.trial({WHOLE: {content: 0.5}}, place)
        whole.append(file.read_bytes())
    for step in range(len(calls.calls)):
        with KilledCalls(step).installed(), pytest.raises(Killed):
            pool.engine.trial({WHOLE: {second: 0.5}}, place)
        try:
            open_weights(place).close()
            assert file.read_bytes() in whole  # the one before
        except (RejectedError, TransientError):
            pass
        pool.engine.trial({WHOLE: {first: 0.5}}, place)
        assert file.read_bytes() == whole[0]
