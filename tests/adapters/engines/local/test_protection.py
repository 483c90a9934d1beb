"""Protected capabilities on real files: a vetoed contribution is one whose vetoed entries are those of the base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.engines.local import tensors
from mergenode.adapters.engines.local.engine import Resources
from mergenode.adapters.engines.local.protection import Protection, describe_protection
from mergenode.adapters.engines.local.restate import LocalRestater
from mergenode.errors import FatalError
from mergenode.ledger.restatement import Replay, Subtract
from mergenode.maths.veto import BINS, count_rises, predicted_rise, total_rise, veto_threshold
from mergenode.methods import METHODS, build_method
from mergenode.methods.protected import protected
from mergenode.methods.rescale import at_scale
from mergenode.types import Candidate, Head
from tests.support.local_node import SILENT, LocalNode, load_model, same_bits
from tests.support.models import HEAD, factors, fine_tune, random_base, write_lora, write_model
from tests.support.side_cars import fishers

FOLDABLE = [name for name in METHODS if name != "dare" and not build_method(name, {}).needs]
"""What dare draws depends on the stored bytes; it has a test of its own."""

Model = dict[str, Tensor]


def protection(root: Path, base: Model, **given: Any) -> Protection:
    place = root / "skill.fisher.safetensors"
    if not place.exists():
        root.mkdir(parents=True, exist_ok=True)
        save_file(fishers(base, 0), place)
    asked: dict[str, Any] = {"max_rise": 2.0, "max_share": None, "checkpoint": None} | given
    return Protection(name="skill", fisher=place, **asked)


def guard(node: LocalNode, *asked: Protection) -> LocalNode:
    """The node, with these protections."""
    node.engine.protections = tuple(describe_protection(each, node.described, Limits()) for each in asked)
    node.engine.method = protected(node.engine.method, [each.terms for each in node.engine.protections])
    return node


def vetoed(base: Model, tuned: Model, asked: Protection, anchor: Model | None = None, weight: float = 1.0) -> Model:
    """The oracle: the same checkpoint with every entry that is vetoed set to that of the base."""
    known = fishers(base, 0)
    deltas = {name: weight * (tuned[name].double() - base[name].double()) for name in known}
    wide = {name: torch.float64 if base[name].dtype is torch.float64 else torch.float32 for name in known}
    deltas = {name: delta.to(wide[name]) for name, delta in deltas.items()}
    aways = {name: (base[name].to(wide[name]) - anchor[name].to(wide[name])) if anchor else None for name in known}

    def flat(name: str) -> tuple[Tensor, Tensor, Tensor | None]:
        away = aways[name]
        return known[name].flatten(), deltas[name].flatten(), None if away is None else away.flatten()

    counts = sum((count_rises(*flat(name)) for name in known), torch.zeros(BINS, dtype=torch.int64))
    threshold = veto_threshold(counts, max_rise=asked.max_rise, max_share=asked.max_share)
    assert threshold < inf
    found = {name: tensor.clone() for name, tensor in tuned.items()}
    for name in known:
        harmful = (predicted_rise(*flat(name)) >= threshold).view(tuned[name].shape)
        found[name] = torch.where(harmful, base[name], tuned[name])
    if HEAD in found:
        found[HEAD] = found["model.embed_tokens.weight"].clone()
    return found


def world(root: Path, asked: Protection, base: Model, count: int = 3) -> tuple[Path, list[Path], list[Path]]:
    """A base, fine-tunes, and the same without what is vetoed."""
    tuned = [fine_tune(base, number) for number in range(count)]
    models = [write_model(root / f"m{number}", each, shards=2) for number, each in enumerate(tuned)]
    spared = [write_model(root / f"s{number}", vetoed(base, each, asked)) for number, each in enumerate(tuned)]
    return write_model(root / "base", base, shards=2), models, spared


def statistics(node: LocalNode) -> Mapping[str, Any]:
    return {name: record["statistics"] for name, record in node.records().items()}


@pytest.mark.parametrize("method", FOLDABLE)
def test_in_every_method_a_vetoed_entry_is_one_of_the_base(tmp_path: Path, method: str) -> None:
    base = random_base()
    asked = protection(tmp_path, base)
    place, models, spared = world(tmp_path, asked, base)
    node, plain = guard(LocalNode(tmp_path / "a", place, method), asked), LocalNode(tmp_path / "b", place, method)
    for model, other in zip(models, spared, strict=True):
        result, wanted = node.fold(model), plain.fold(other)
        assert result.norm == wanted.norm and 0.01 < result.protection["share"] < 0.99
        offered = (wanted.norm**2 + result.protection["norm"] ** 2) ** 0.5
        assert result.protection["share"] == pytest.approx((result.protection["norm"] / offered) ** 2)
    assert statistics(node) == statistics(plain)
    assert node.head.totals == plain.head.totals


def test_dare_draws_what_it_draws_without_vetoes(tmp_path: Path) -> None:
    base = random_base(dtype=torch.float32)
    asked = protection(tmp_path, base)
    place, models, spared = world(tmp_path, asked, base, 1)
    node, plain = guard(LocalNode(tmp_path / "a", place, "dare"), asked), LocalNode(tmp_path / "b", place, "dare")
    node.fold(models[0])
    plain.fold(models[0])
    mine, theirs, kept = node.running_sum(), plain.running_sum(), load_model(spared[0])
    for name, sums in mine.items():
        gone = kept[name] == base[name]
        assert torch.equal(sums[~gone], theirs[name][~gone]) and not sums[gone].any()


def test_two_capabilities_both_have_their_veto(tmp_path: Path) -> None:
    base = random_base(dtype=torch.float32)
    first, second = protection(tmp_path / "1", base), replace(protection(tmp_path / "2", base), max_share=0.1, name="b")
    place, models, spared = world(tmp_path, first, base, 1)
    node = guard(LocalNode(tmp_path / "n", place, "task_arithmetic"), first, second)
    report = node.fold(models[0]).protection
    tighter = vetoed(base, load_model(models[0]), second)
    for name, sums in node.running_sum().items():
        gone = (load_model(spared[0])[name] == base[name]) | (tighter[name] == base[name])
        assert torch.equal(sums == 0, gone)
    assert [each["name"] for each in report["by"]] == ["skill", "b"]
    assert all(each["left"] < each["offered"] for each in report["by"]) and report["by"][0]["left"] <= 2.0


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_what_a_capability_gains_from_is_not_vetoed(tmp_path: Path, weight: float) -> None:
    """The Fisher was taken of another checkpoint: a step towards it lowers the loss."""
    base = random_base(dtype=torch.float32)
    home, other = fine_tune(base, 7), fine_tune(base, 8)
    place = write_model(tmp_path / "base", base)
    at_home, model = write_model(tmp_path / "home", home), write_model(tmp_path / "m", other)
    asked = protection(tmp_path, base, checkpoint=at_home, max_rise=0.1)
    node = guard(LocalNode(tmp_path / "n", place, "task_arithmetic"), asked)
    assert node.fold(at_home, weight).protection["share"] == 0.0
    fresh = guard(LocalNode(tmp_path / "f", place, "task_arithmetic"), asked)
    assert fresh.fold(model, weight).protection["share"] > 0.0
    spared = vetoed(base, other, asked, home, weight)
    for name, sums in fresh.running_sum().items():
        assert torch.equal(sums == 0, spared[name] == base[name]), name


@pytest.mark.parametrize("method", ["task_arithmetic", "opcm"])
def test_an_adapter_is_vetoed_as_its_dense_product(tmp_path: Path, method: str) -> None:
    base = random_base(dtype=torch.float32)
    place = write_model(tmp_path / "base", base)
    modules = ["layers.0.mlp.up_proj", "layers.0.mlp.down_proj"]
    pairs = factors(modules, {name: tuple(tensor.shape) for name, tensor in base.items()}, 0)
    adapter = write_lora(tmp_path / "adapter", pairs)
    plain = LocalNode(tmp_path / "b", place, method)
    plain.fold(adapter)
    product = plain.running_sum()
    node = guard(LocalNode(tmp_path / "a", place, method), protection(tmp_path, base))
    report = node.fold(adapter).protection
    known = fishers(base, 0)
    touched = {f"{module}.weight": product[f"{module}.weight"].flatten() for module in modules}
    counts = sum(count_rises(known[name].flatten(), delta) for name, delta in touched.items())
    threshold = veto_threshold(torch.as_tensor(counts), max_rise=2.0)
    assert report["by"][0]["offered"] == pytest.approx(total_rise(torch.as_tensor(counts)), rel=0.01)
    for name, sums in node.running_sum().items():
        rise = predicted_rise(known[name].flatten(), touched[name]).view(sums.shape)
        clear = (rise < 0.9 * threshold) | (rise > 1.1 * threshold)
        assert torch.equal((sums == 0)[clear], (rise >= threshold)[clear])
        assert torch.allclose(sums[rise < 0.9 * threshold], product[name][rise < 0.9 * threshold])


def test_threads_change_no_byte(tmp_path: Path) -> None:
    base = random_base()
    asked = protection(tmp_path, base)
    place, models, _ = world(tmp_path, asked, base, 1)
    found = []
    for threads in (1, 3):
        resources = Resources(memory_limit=8 << 30, threads=threads, device="cpu")
        node = guard(LocalNode(tmp_path / f"t{threads}", place, resources=resources), asked)
        found.append((node.fold(models[0]).protection, statistics(node)))
    assert found[0] == found[1]


def member(node: LocalNode, path: Path, number: int) -> Candidate:
    return Candidate("inbox", path.name, "1", str(path), content=node.results[number].content, forced=True)


@pytest.mark.parametrize(
    "method, slice_of", [("task_arithmetic", 1 << 18), ("ties", 1 << 18), ("ties", 100), ("iso", 100)]
)
def test_what_left_by_subtraction_leaves_what_it_had_entered_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, slice_of: int
) -> None:
    monkeypatch.setattr(tensors, "SLICE_ELEMENTS", slice_of)
    base = random_base(dtype=torch.float32)
    asked = protection(tmp_path, base)
    place, models, spared = world(tmp_path, asked, base)
    nodes = (guard(LocalNode(tmp_path / "a", place, method), asked), LocalNode(tmp_path / "b", place, method))
    results = []
    for node, paths in zip(nodes, (models, spared), strict=True):
        for path in paths:
            node.fold(path)
        way = Subtract(node.head, (member(node, paths[1], 1),))
        results.append(LocalRestater(node.engine).restate(way, SILENT))
        node.generations.install(node.head.generation + 1)
        node.head = Head(node.head.generation + 1, 2, results[-1].totals, results[-1].statistics)
    assert results[0].totals == results[1].totals and statistics(nodes[0]) == statistics(nodes[1])


@pytest.mark.parametrize("method", ["opcm", "task_arithmetic"])
def test_a_replay_is_bit_equal(tmp_path: Path, method: str) -> None:
    base = random_base()
    asked = protection(tmp_path, base)
    place, models, _ = world(tmp_path, asked, base)
    node, fresh = (guard(LocalNode(tmp_path / name, place, method), asked) for name in "ab")
    for path in models:
        node.fold(path, 0.5)
    folded = tuple(replace(member(node, path, number), weight=0.5) for number, path in enumerate(models) if number != 1)
    result = LocalRestater(node.engine).restate(Replay(Head(), folded), SILENT)
    for path in (models[0], models[2]):
        fresh.fold(path, 0.5)
    assert (result.statistics, result.totals) == (fresh.head.statistics, fresh.head.totals)


def test_terms_are_options_of_the_method(tmp_path: Path) -> None:
    base = random_base(dtype=torch.float32)
    place = write_model(tmp_path / "base", base)
    node = guard(LocalNode(tmp_path / "n", place, "ties"), protection(tmp_path, base))
    options = node.engine.method.options
    assert options["protect"][0]["fisher"].startswith("blake3:") and "skill" not in str(options["protect"])
    assert build_method("ties", options).options == options, "what a ledger holds makes the same method again"
    other = guard(LocalNode(tmp_path / "o", place, "ties"), protection(tmp_path, base, max_rise=1.0))
    assert other.engine.method.options != options
    assert at_scale(node.engine.method, 0.5).options == options | {"scale": 0.5}
    bare = LocalNode(tmp_path / "p", place, "ties").engine.method
    assert protected(bare, []) is bare


def test_files_that_change_stop_the_node(tmp_path: Path) -> None:
    base = random_base(dtype=torch.float32)
    place, model = write_model(tmp_path / "base", base), write_model(tmp_path / "m", fine_tune(base, 1))
    asked = protection(tmp_path, base)
    node = guard(LocalNode(tmp_path / "n", place), asked)
    save_file({name: values[:1] if values.ndim else values for name, values in fishers(base, 1).items()}, asked.fisher)
    with pytest.raises(FatalError, match=r"protection skill|protect skill"):
        node.fold(model)


@pytest.mark.parametrize("how", ["negative", "unknown", "shape", "absent", "adapter"])
def test_a_fisher_that_cannot_be_one_is_refused_at_the_start(tmp_path: Path, how: str) -> None:
    base = random_base(dtype=torch.float32)
    place = write_model(tmp_path / "base", base)
    values, given = fishers(base, 0), {}
    name = "layers.0.norm.weight"
    if how == "negative":
        values[name] = -values[name]
    elif how == "unknown":
        values["nobody"] = values[name].clone()
    elif how == "shape":
        values[name] = values[name][:3]
    asked = protection(tmp_path / "p", base)
    if how == "absent":
        asked.fisher.unlink()
    else:
        save_file(values, asked.fisher)
    if how == "adapter":
        pairs = factors(["layers.0.mlp.up_proj"], {key: tuple(tensor.shape) for key, tensor in base.items()}, 0)
        given = {"checkpoint": write_lora(tmp_path / "adapter", pairs)}
    node = LocalNode(tmp_path / "n", place)
    with pytest.raises(Exception, match="skill") as caught:
        guard(node, replace(asked, **given))
    assert caught.value.hint  # type: ignore[attr-defined]  # all of them are the tree's


def test_a_window_holds_what_vetoes_take(tmp_path: Path) -> None:
    base = random_base(dtype=torch.float32)
    place = write_model(tmp_path / "base", base)
    bare = LocalNode(tmp_path / "b", place)
    node = guard(LocalNode(tmp_path / "n", place), protection(tmp_path, base))
    assert node.engine.least_memory() - bare.engine.least_memory() > 32 * 1024


def test_a_first_contribution_without_harm_comes_back_bit_for_bit(tmp_path: Path) -> None:
    base = random_base()
    place, tuned = write_model(tmp_path / "base", base), fine_tune(base, 1)
    model = write_model(tmp_path / "m", tuned)
    node = guard(LocalNode(tmp_path / "n", place), protection(tmp_path, base, max_rise=1e9))
    assert node.fold(model).protection["by"][0]["threshold"] is None
    published = node.published(tmp_path / "out")
    assert all(same_bits(published[name], tensor) for name, tensor in tuned.items())
