"""Side-cars through the engine: read and hashed with the weights, refused when nothing could have made them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mergenode.adapters.checkpoints.contribution import open_contribution
from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.adapters.engines.local import shards
from mergenode.adapters.engines.local.engine import Resources
from mergenode.adapters.engines.local.fold import FoldPass
from mergenode.adapters.engines.local.incoming import Source
from mergenode.adapters.engines.local.restate import LocalRestater
from mergenode.daemon.refusing import judge
from mergenode.errors import FatalError, RejectedError, RejectReason, TransientError, TransientReason
from mergenode.ledger.restatement import Subtract
from mergenode.methods import METHODS, build_method
from mergenode.ports.engine import Stopped
from mergenode.types import Candidate, Digest, Head
from tests.support import literal_sums
from tests.support.local_node import LocalNode, load_model, merge, same_bits
from tests.support.models import EMBEDDING, HEAD, fine_tune, random_base, write_model
from tests.support.side_cars import fishers, grams, write_side_cars

NEEDY = [name for name in METHODS if build_method(name, {}).needs]
SQUARE = "layers.0.attn.q_proj.weight"


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 8 << 10)


def world(root: Path, count: int = 2) -> tuple[Path, list[Path]]:
    base = random_base()
    models = [write_model(root / "in" / f"{n}", fine_tune(base, n)) for n in range(count)]
    return write_model(root / "base", base), [write_side_cars(model, base, n) for n, model in enumerate(models)]


def kind_of(method: str) -> str:
    (kind,) = build_method(method, {}).needs
    return kind


def place_of(model: Path, method: str) -> Path:
    return model / f"model.{kind_of(method)}.safetensors"


def change(place: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(place)
    edit(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, place)


def test_the_published_model_is_that_of_the_formula(tmp_path: Path) -> None:
    base, models = world(tmp_path, 3)
    tensors, tuned = load_model(base), [load_model(model) for model in models]
    floor, ridge, off_diagonal = 1e-3, 1e-3, 0.9
    published = {}
    for method in NEEDY:
        node = LocalNode(tmp_path / method, base, method)
        for model in models:
            node.fold(model)
        published[method] = node.published(tmp_path / method / "out")
    for name in (SQUARE, "layers.0.norm.weight", "layers.1.exact.weight"):
        vectors = [model[name].double() - tensors[name].double() for model in tuned]
        even = []
        for number in range(3):
            whole = fishers(tensors, number)
            count = sum(tensor.numel() for tensor in whole.values())
            rms = (sum(float(tensor.double().square().sum()) for tensor in whole.values()) / count) ** 0.5
            even.append(whole[name].double() / rms)
        expected = tensors[name].double() + literal_sums.fisher(vectors, even, [1.0] * 3, floor)
        assert torch.allclose(published["fisher"][name].double(), expected, rtol=0, atol=1e-6)
        if name.endswith("proj.weight"):
            moments = [grams(tensors, number)[name].double() for number in range(3)]
            expected = tensors[name].double() + literal_sums.regmean(vectors, moments, [1.0] * 3, off_diagonal, ridge)
            assert torch.allclose(published["regmean"][name].double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_with_side_cars_folds_under_any_method(tmp_path: Path, method: str) -> None:
    base = random_base()
    model = write_side_cars(write_model(tmp_path / "in", fine_tune(base, 0), shards=3), base, 0)
    node = LocalNode(tmp_path / "node", write_model(tmp_path / "base", base), method)
    result = node.fold(model)
    assert not any("not part of the checkpoint" in warning for warning in result.warnings)
    assert result.promised == content_digest(model)
    assert (result.content == result.promised) is not bool(node.engine.method.needs)


@pytest.mark.parametrize("method", NEEDY)
def test_a_bare_file_has_its_side_cars_beside_it(tmp_path: Path, method: str) -> None:
    base, (model, _) = world(tmp_path)
    bare = tmp_path / "maths.safetensors"
    (model / "model.safetensors").rename(bare)
    place_of(model, method).rename(tmp_path / f"maths.{kind_of(method)}.safetensors")
    assert LocalNode(tmp_path / "node", base, method).fold(bare).norm > 0


@pytest.mark.parametrize("method", NEEDY)
def test_without_its_side_car_a_contribution_is_refused_and_told_what_to_do(tmp_path: Path, method: str) -> None:
    base, (model, other) = world(tmp_path)
    place_of(model, method).unlink()
    node = LocalNode(tmp_path / "node", base, method)
    with pytest.raises(RejectedError, match=rf"has no \*\.{kind_of(method)}\.safetensors") as caught:
        node.fold(model)
    assert caught.value.reason is RejectReason.NEEDS_SIDE_CAR
    assert "mergenode sidecar" in caught.value.hint
    node.fold(other)
    with pytest.raises(RejectedError) as caught:
        merge(base, tmp_path / "merged", [other, model], method=method)
    assert caught.value.reason is RejectReason.NEEDS_SIDE_CAR


def test_two_side_cars_of_a_kind_are_ambiguous(tmp_path: Path) -> None:
    base, (model, _) = world(tmp_path)
    save_file({"a": torch.ones(2)}, model / "older.gram.safetensors")
    with pytest.raises(RejectedError) as caught:
        LocalNode(tmp_path / "node", base, "regmean").fold(model)
    assert caught.value.reason is RejectReason.AMBIGUOUS_WEIGHTS


# ---- what it is


@pytest.mark.parametrize("method", NEEDY)
def test_the_same_weights_with_another_side_car_are_another_contribution(tmp_path: Path, method: str) -> None:
    base, (model, _) = world(tmp_path)
    results = [LocalNode(tmp_path / "0", base, method).fold(model)]
    change(place_of(model, method), lambda tensors: tensors[SQUARE].mul_(2.0))
    results.append(LocalNode(tmp_path / "1", base, method).fold(model))
    other = "fisher" if kind_of(method) == "gram" else "gram"
    change(model / f"model.{other}.safetensors", lambda tensors: tensors[SQUARE].mul_(2.0))
    results.append(LocalNode(tmp_path / "2", base, method).fold(model))
    assert results[0].promised == results[1].promised == results[2].promised
    assert results[0].content != results[1].content
    assert results[1].content == results[2].content, "what the method does not use does not matter"


def test_a_marker_promises_the_weights_and_is_believed_under_any_method(tmp_path: Path) -> None:
    base, (model, _) = world(tmp_path)
    result = LocalNode(tmp_path / "node", base, "fisher").fold(model)
    candidate = Candidate("inbox", "0", "1", str(model), content=content_digest(model))
    judge(candidate, replace(result, relative_norm=0.1), float("inf"))
    with pytest.raises(RejectedError) as caught:
        judge(replace(candidate, content=Digest("blake3:" + "0" * 64)), result, float("inf"))
    assert caught.value.reason is RejectReason.DIGEST_MISMATCH


@pytest.mark.parametrize("method", NEEDY)
def test_the_identity_is_the_same_whatever_was_read_in_which_order(tmp_path: Path, method: str) -> None:
    """An interrupted fold takes digests from records, an undisturbed one from what it reads; one adapter reads less."""
    base, (model, _) = world(tmp_path)
    calm = LocalNode(tmp_path / "calm", base, method).fold(model)
    disturbed = LocalNode(tmp_path / "disturbed", base, method)
    for steps in range(3, 90, 7):
        asked = iter(range(1000))
        disturbed.engine.stop = lambda asked=asked, steps=steps: next(asked) >= steps
        try:
            found = disturbed.fold(model)
            break
        except Stopped:
            continue
    assert found.content == calm.content
    assert found.statistics == calm.statistics


# ---- what is refused


@pytest.mark.parametrize(
    ("method", "edit", "said"),
    [
        ("fisher", lambda t: t[SQUARE].__setitem__((3, 5), -1e-9), "finite and not negative"),
        ("fisher", lambda t: t[SQUARE].__setitem__((3, 5), float("nan")), "finite and not negative"),
        ("fisher", lambda t: t[SQUARE].__setitem__((3, 5), float("inf")), "finite and not negative"),
        ("fisher", lambda t: t.update({SQUARE: t[SQUARE][:-1]}), r"has shape \[31, 32\]"),
        ("fisher", lambda t: t.update({SQUARE: t[SQUARE].long()}), "is I64"),
        ("fisher", lambda t: t.update({"nobody": torch.ones(2)}), "no weight of this name"),
        ("fisher", lambda t: t.update({"position_ids": torch.ones(1, 16)}), "no weight of this name"),
        ("fisher", lambda t: t.update({HEAD: t[EMBEDDING].clone()}), "speaks of the same weight"),
        ("regmean", lambda t: t[SQUARE].__setitem__((3, 5), float("nan")), "not finite"),
        ("regmean", lambda t: t[SQUARE].__setitem__((3, 5), t[SQUARE][3, 3]), "not symmetric"),
        ("regmean", lambda t: t[SQUARE].__setitem__((3, 3), -1.0), "on its diagonal"),
        ("regmean", lambda t: t[SQUARE].__setitem__((3, 3), 0.0), "an input that is always 0"),
        ("regmean", lambda t: t[SQUARE].diagonal().mul_(0.5), "positive semi-definite"),
        ("regmean", lambda t: t.update({SQUARE: t[SQUARE].bfloat16()}), "is BF16"),
        ("regmean", lambda t: t.update({SQUARE: t[SQUARE][:, :-1]}), r"has shape \[32, 31\]"),
        ("regmean", lambda t: t.update({"layers.0.norm.weight": torch.ones(32, 32)}), "needs a matrix"),
    ],
)
def test_what_no_data_could_have_made_is_refused(
    tmp_path: Path, method: str, edit: Callable[[dict[str, torch.Tensor]], object], said: str
) -> None:
    base, (model, other) = world(tmp_path)
    change(place_of(model, method), edit)
    node = LocalNode(tmp_path / "node", base, method)
    with pytest.raises(RejectedError, match=said) as caught:
        node.fold(model)
    assert caught.value.reason is RejectReason.SIDE_CAR_INVALID
    assert place_of(model, method).name in caught.value.message
    assert "mergenode sidecar" in caught.value.hint
    node.fold(other)


def test_what_data_can_make_is_taken(tmp_path: Path) -> None:
    """Fewer rows than inputs, inputs that are always 0, no rows at all, fp64, names of the contribution."""
    base, (model, _) = world(tmp_path)
    row = torch.randn(3, 32).double()
    row[:, 7] = 0.0

    def edit(tensors: dict[str, torch.Tensor]) -> None:
        tensors[SQUARE] = row.T @ row / 3
        tensors["layers.0.mlp.up_proj.weight"] = torch.zeros(32, 32)
        del tensors["layers.0.mlp.down_proj.weight"]

    change(place_of(model, "regmean"), edit)
    node = LocalNode(tmp_path / "node", base, "regmean")
    node.fold(model)
    assert all(tensor.double().isfinite().all() for tensor in node.published(tmp_path / "out").values())


@pytest.mark.parametrize("method", NEEDY)
def test_a_damaged_side_car_is_refused_like_damaged_weights(tmp_path: Path, method: str) -> None:
    base, (model, _) = world(tmp_path)
    place = place_of(model, method)
    whole = place.read_bytes()
    place.write_bytes(whole[:-1])
    with pytest.raises(RejectedError) as caught:
        LocalNode(tmp_path / "node", base, method).fold(model)
    assert caught.value.reason is RejectReason.FILE_TRUNCATED
    place.unlink()
    os.symlink("/etc/hostname", place)
    with pytest.raises(RejectedError) as caught:
        LocalNode(tmp_path / "other", base, method).fold(model)
    assert caught.value.reason is RejectReason.PATH_UNSAFE


@pytest.mark.parametrize("method", NEEDY)
def test_a_side_car_that_changes_while_it_is_read_is_read_again(tmp_path: Path, method: str) -> None:
    base, (model, _) = world(tmp_path)
    node = LocalNode(tmp_path / "node", base, method)
    place, asked = place_of(model, method), iter(range(1000))

    def touched() -> bool:
        if next(asked) == 5:
            os.utime(place, ns=(1, 1))
        return False

    node.engine.stop = touched
    with pytest.raises(TransientError) as caught:
        node.fold(model)
    assert caught.value.reason is TransientReason.CHANGED_WHILE_READING
    assert place.name in caught.value.message
    node.engine.stop = lambda: False
    assert node.fold(model).norm > 0


# ---- weights and memory


@pytest.mark.parametrize("method", NEEDY)
def test_a_weight_weighs(tmp_path: Path, method: str) -> None:
    """Twice the weight is as good as the same vote twice; alone no weight matters."""
    base, models = world(tmp_path)
    node, alone = (LocalNode(tmp_path / name, base, method) for name in ("node", "alone"))
    node.fold(models[0], weight=3.0)
    node.fold(models[1])
    alone.fold(models[0], weight=3.0)
    tensors, published = load_model(base), node.published(tmp_path / "out")
    solo = alone.published(tmp_path / "solo")
    tuned = [load_model(model)[SQUARE].double() - tensors[SQUARE].double() for model in models]
    assert torch.allclose(solo[SQUARE].double(), tensors[SQUARE].double() + tuned[0], atol=1e-5)
    if method == "regmean":
        moments = [grams(tensors, number)[SQUARE].double() for number in range(2)]
        expected = tensors[SQUARE].double() + literal_sums.regmean(tuned, moments, [3.0, 1.0], 0.9, 1e-3)
        assert torch.allclose(published[SQUARE].double(), expected, atol=1e-5)


@pytest.mark.parametrize("method", NEEDY)
def test_memory_is_planned_for_side_cars(tmp_path: Path, method: str) -> None:
    base, (model, _) = world(tmp_path)
    node = LocalNode(tmp_path / "node", base, method)
    engine = node.engine
    with (
        engine.open_base() as files,
        open_contribution(model, node.described, needs=engine.method.needs) as contribution,
    ):
        source = Source(contribution, 1.0, "model")
        work = FoldPass(
            base=node.described, base_files=files, sources=[source], method=engine.method, folder=tmp_path / "x",
            previous=None, device=torch.device("cpu"),
        )  # fmt: skip
        spec = node.described.specs[SQUARE]
        with_them = work.need_bytes(spec, (0, spec.numel), 1, whole=True)
        work.method = replace(engine.method, sides=lambda spec: frozenset())
        assert with_them - work.need_bytes(spec, (0, spec.numel), 1, whole=True) >= 2 * 4 * spec.numel
    tight = LocalNode(tmp_path / "tight", base, method, resources=Resources(memory_limit=16 << 20, device="cpu"))
    with pytest.raises(FatalError, match="memory_limit"):
        tight.fold(model)


def test_one_shot_and_node_agree_for_bare_files_and_directories(tmp_path: Path) -> None:
    base, models = world(tmp_path)
    for method in NEEDY:
        node = LocalNode(tmp_path / method, base, method)
        for model in models:
            node.fold(model)
        merge(base, tmp_path / f"{method}-merged", models, method=method)
        published, merged = node.published(tmp_path / method / "out"), load_model(tmp_path / f"{method}-merged")
        assert all(same_bits(published[name], merged[name]) for name in merged)


# ---- taken back


@pytest.mark.parametrize("method", NEEDY)
def test_what_is_subtracted_takes_its_side_car_with_it(tmp_path: Path, method: str) -> None:
    base, models = world(tmp_path, 3)
    node, other = (LocalNode(tmp_path / name, base, method) for name in ("node", "other"))
    for model in models:
        node.fold(model)
    for model in (models[0], models[2]):
        other.fold(model)
    removed = Candidate("inbox", "1", "1", str(models[1]), content=node.results[1].content, forced=True)
    result = LocalRestater(node.engine).restate(Subtract(node.head, (removed,)), node.observer)
    node.generations.install(4)
    node.generations.retire(4)
    node.head = Head(4, 2, result.totals, result.statistics)
    published, wanted, tensors = node.published(tmp_path / "out"), other.published(tmp_path / "wanted"), random_base()
    for name, tensor in wanted.items():
        if tensor.is_floating_point() and tensor.numel():
            moved = (tensor.double() - tensors[name].double()).norm()
            rounding = torch.finfo(tensor.dtype).eps * tensor.double().norm()
            assert (published[name].double() - tensor.double()).norm() <= 1e-4 * moved + rounding, name


@pytest.mark.parametrize("method", NEEDY)
def test_with_another_side_car_it_cannot_be_taken_back(tmp_path: Path, method: str) -> None:
    base, models = world(tmp_path)
    node = LocalNode(tmp_path / "node", base, method)
    for model in models:
        node.fold(model)
    change(place_of(models[0], method), lambda tensors: tensors[SQUARE].mul_(2.0))
    removed = Candidate("inbox", "0", "1", str(models[0]), content=node.results[0].content, forced=True)
    with pytest.raises(RejectedError) as caught:
        LocalRestater(node.engine).restate(Subtract(node.head, (removed,)), node.observer)
    assert caught.value.reason is RejectReason.DIGEST_MISMATCH
