"""What the fold pass computes, against a literal float64 implementation, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergenode.adapters.engines.local import shards, tensors
from mergenode.types import Candidate
from tests.support.literal_merge import LiteralMerge, dense_deltas, norm
from tests.support.local_node import SILENT, LocalNode
from tests.support.models import (
    EMBEDDING,
    HEAD,
    PROJECTED,
    Tensors,
    densified,
    factors,
    fine_tune,
    random_base,
    write_lora,
    write_model,
)

VARIANTS = ("block", "block_orthogonal", "diagonal", "paper")
ADAPTED = ("layers.0.attn.q_proj", "layers.0.mlp.up_proj", "layers.0.mlp.down_proj", "layers.1.exact")
TOLERANCE = 2e-6
"""Largest distance from exact arithmetic, as a share of the task vector's norm."""


def literal(base: Tensors, variant: str = "block", alpha: float = 0.5) -> LiteralMerge:
    return LiteralMerge(base, lambda name: name in PROJECTED, alpha, variant)


def low_rank_deltas(pairs: Tensors, scale: float) -> dict[str, Tensor]:
    found = {}
    for name, right in pairs.items():
        if ".lora_A." in name:
            left = pairs[name.replace(".lora_A.", ".lora_B.")].double()
            found[name.removeprefix("base_model.model.").replace(".lora_A", "")] = scale * (left @ right.double())
    return found


def distance(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    assert found.keys() == wanted.keys()
    return norm(found[name].double() - wanted[name].double() for name in wanted)


def check_fold(node: LocalNode, reference: LiteralMerge, path: Path, deltas: dict[str, Tensor]) -> None:
    """One more fold, by both, from the state that the node has committed."""
    reference.sums = node.running_sum()
    reference.ranks = {}
    result = node.fold(path)
    reference.fold(deltas)
    length = norm(deltas.values())
    assert result.norm == pytest.approx(length, rel=1e-6)
    assert distance(node.running_sum(), reference.sums) <= TOLERANCE * length
    observed = {name: record["folds"][-1]["observed"] for name, record in node.records().items()}
    for name, rank in reference.ranks.items():
        assert observed[name]["rank"] == rank, name
        # In float64 a low rank cannot be seen in the Gram matrix: there the decomposition proper is the way.
        assert observed[name]["fallback"] == 0.0 or reference.base[name].dtype is torch.float64, name


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("tied", ["twice", "once"])
def test_folds_agree_with_the_definition(tmp_path: Path, variant: str, tied: str) -> None:
    base = random_base(tied=tied)
    node = LocalNode(tmp_path, write_model(tmp_path / "base", base, shards=2), options={"variant": variant})
    reference = literal(base, variant)
    for number in range(1, 4):
        tuned = fine_tune(base, number)
        path = write_model(tmp_path / f"tuned-{number}", tuned)
        check_fold(node, reference, path, dense_deltas(base, tuned, skip=[HEAD]))
    pairs = factors(ADAPTED, {name: tuple(t.shape) for name, t in base.items()}, 7)
    check_fold(node, reference, write_lora(tmp_path / "lora", pairs), low_rank_deltas(pairs, 2.0))


@pytest.mark.parametrize("variant", VARIANTS)
def test_low_rank_folds_into_a_low_rank_sum_agree_with_the_definition(tmp_path: Path, variant: str) -> None:
    base = random_base()
    shapes = {name: tuple(tensor.shape) for name, tensor in base.items()}
    node = LocalNode(tmp_path, write_model(tmp_path / "base", base), options={"variant": variant})
    reference = literal(base, variant)
    for number in range(1, 5):
        pairs = factors(ADAPTED[number % 2 :], shapes, number)
        check_fold(node, reference, write_lora(tmp_path / f"lora-{number}", pairs), low_rank_deltas(pairs, 2.0))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9])
def test_alpha_protects_the_rank_of_the_definition(tmp_path: Path, alpha: float) -> None:
    base = random_base()
    node = LocalNode(tmp_path, write_model(tmp_path / "base", base), options={"alpha": alpha})
    reference = literal(base, alpha=alpha)
    for number in (1, 2):
        tuned = fine_tune(base, number)
        check_fold(node, reference, write_model(tmp_path / f"{number}", tuned), dense_deltas(base, tuned, skip=[HEAD]))


def test_a_whole_sequence_stays_with_the_definition(tmp_path: Path) -> None:
    """Six folds without looking at the state in between: errors do not grow, the published model is as defined."""
    base = random_base(dtype=torch.float32)
    node = LocalNode(tmp_path, write_model(tmp_path / "base", base))
    reference = literal(base)
    for number in range(1, 7):
        tuned = fine_tune(base, number)
        node.fold(write_model(tmp_path / f"tuned-{number}", tuned))
        reference.fold(dense_deltas(base, tuned, skip=[HEAD]))
    published = node.published(tmp_path / "out")
    mean = sum(reference.norms) / len(reference.norms)
    merged = {name: tensor for name, tensor in reference.published().items() if name in reference.sums}
    assert distance({name: published[name] for name in merged}, merged) <= TOLERANCE * mean
    moved = norm(published[name].double() - base[name].double() for name in merged)
    assert moved == pytest.approx(mean, rel=1e-6)
    assert torch.equal(published[HEAD], published[EMBEDDING])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    m=st.integers(2, 40),
    n=st.integers(2, 40),
    rank=st.integers(1, 6),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    variant=st.sampled_from(VARIANTS),
    seed=st.integers(0, 1000),
)
def test_any_shape_any_scale(
    tmp_path_factory: pytest.TempPathFactory, m: int, n: int, rank: int, scale: float, variant: str, seed: int
) -> None:
    """A sum of few directions, then a full-rank arrival, at scales far from one."""
    place = tmp_path_factory.mktemp("any")
    draw = torch.Generator().manual_seed(seed)
    base: Tensors = {"block.proj.weight": torch.zeros(m, n), "bias": torch.zeros(3)}
    first = torch.randn(m, rank, generator=draw) @ torch.randn(rank, n, generator=draw) * scale
    second = torch.randn(m, n, generator=draw) * scale
    node = LocalNode(place, write_model(place / "base", base), options={"variant": variant})
    reference = LiteralMerge(base, lambda name: name == "block.proj.weight", 0.5, variant)
    for number, values in enumerate((first, second)):
        tuned = {"block.proj.weight": values, "bias": torch.ones(3) * scale}
        check_fold(node, reference, write_model(place / f"{number}", tuned), dense_deltas(base, tuned))


def test_the_second_and_later_slices_of_large_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With slices of 100 elements (less than a row, and not a divisor of anything) the sums stay the same."""
    base = random_base()
    monkeypatch.setattr(tensors, "SLICE_ELEMENTS", 100)
    monkeypatch.setattr(shards, "SHARD_BYTES", 8 << 10)
    node = LocalNode(tmp_path, write_model(tmp_path / "base", base, shards=3))
    reference = literal(base)
    for number in (1, 2):
        tuned = fine_tune(base, number)
        path = write_model(tmp_path / f"tuned-{number}", tuned)
        check_fold(node, reference, path, dense_deltas(base, tuned, skip=[HEAD]))
    assert len(list(node.folder.glob("shard-*.safetensors"))) > 3
    embedding = {"base_model.model.model.embed_tokens.lora_embedding_A": torch.randn(4, 48),
                 "base_model.model.model.embed_tokens.lora_embedding_B": torch.randn(32, 4)}  # fmt: skip
    left, right = (tensor.double() for tensor in embedding.values())
    lora = write_lora(tmp_path / "lora", embedding)
    check_fold(node, reference, lora, {EMBEDDING: 2.0 * (right @ left).T})


def test_what_is_not_merged_is_the_base(tmp_path: Path) -> None:
    base = random_base()
    tuned = fine_tune(base, 1)
    tuned["position_ids"] = tuned["position_ids"] + 5
    node = LocalNode(tmp_path, write_model(tmp_path / "base", base))
    node.fold(write_model(tmp_path / "tuned", tuned))
    published = node.published(tmp_path / "out")
    assert published.keys() == base.keys()
    for name, tensor in base.items():
        assert published[name].shape == tensor.shape and published[name].dtype is tensor.dtype, name
        if not tensor.is_floating_point():
            assert torch.equal(published[name], tensor), name


@pytest.mark.parametrize("weight", [0.25, 3.0])
def test_a_weight_scales_the_contribution(tmp_path: Path, weight: float) -> None:
    base = random_base(dtype=torch.float32)
    node = LocalNode(tmp_path, write_model(tmp_path / "base", base))
    reference = literal(base)
    for number in (1, 2):
        tuned = fine_tune(base, number)
        node.fold(write_model(tmp_path / f"{number}", tuned), weight)
        reference.fold({name: weight * delta for name, delta in dense_deltas(base, tuned, skip=[HEAD]).items()})
    mean = sum(reference.norms) / 2
    published = node.published(tmp_path / "out")
    for name in reference.sums:
        assert norm([published[name].double() - reference.published()[name]]) <= TOLERANCE * mean


def test_untouched_shards_are_links_and_nothing_of_them_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 4 << 10)
    base = random_base()
    node = LocalNode(tmp_path, write_model(tmp_path / "base", base))
    node.fold(write_model(tmp_path / "tuned", fine_tune(base, 1)))
    before = {path.name: path.stat() for path in node.folder.glob("*.safetensors")}
    contents = {path.name: path.read_bytes() for path in node.folder.glob("*.safetensors")}
    pairs = factors(["layers.0.attn.q_proj"], {name: tuple(t.shape) for name, t in base.items()}, 1)
    result = node.fold(write_lora(tmp_path / "lora", pairs))
    after = {path.name: path.stat() for path in node.folder.glob("*.safetensors")}
    assert before.keys() == after.keys()
    rewritten = [name for name in before if before[name].st_ino != after[name].st_ino]
    assert len(rewritten) == 1 and len(before) > 5
    assert all((node.folder / name).read_bytes() == contents[name] for name in before if name not in rewritten)
    written = after[rewritten[0]].st_size
    assert result.bytes_written == written
    record = next(r for p in node.folder.glob("shard-*.json") if rewritten[0][:11] in p.name for r in [p.read_text()])
    members = [name for name in base if f'"{name}"' in record]
    one_shard = sum(base[name].nbytes + 4 * base[name].numel() for name in members)
    assert result.bytes_read <= one_shard + sum(tensor.nbytes for tensor in pairs.values())


def test_an_adapter_into_an_empty_merge_leaves_other_shards_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 4 << 10)
    base = random_base()
    pairs = factors(["layers.0.attn.q_proj"], {name: tuple(t.shape) for name, t in base.items()}, 1)
    node = LocalNode(tmp_path, write_model(tmp_path / "base", base))
    node.fold(write_lora(tmp_path / "lora", pairs))
    assert list(node.running_sum()) == ["layers.0.attn.q_proj.weight"]
    published = node.published(tmp_path / "out")
    changed = [name for name in base if not torch.equal(published[name], base[name])]
    assert changed == ["layers.0.attn.q_proj.weight"]
    node.fold(write_lora(tmp_path / "again", factors(["layers.1.exact"], {"layers.1.exact.weight": (24, 40)}, 2)))
    assert sorted(node.running_sum()) == ["layers.0.attn.q_proj.weight", "layers.1.exact.weight"]


def test_adapter_and_densified_checkpoint_give_the_same_merge(tmp_path: Path) -> None:
    base = random_base(dtype=torch.float32)
    shapes = {name: tuple(tensor.shape) for name, tensor in base.items()}
    directory = write_model(tmp_path / "base", base)
    merged = []
    for kind in ("adapter", "dense"):
        node = LocalNode(tmp_path / kind, directory)
        for number in range(1, 4):
            pairs = factors(ADAPTED, shapes, number)
            place = tmp_path / f"{kind}-{number}"
            node.fold(write_lora(place, pairs) if kind == "adapter" else write_model(place, densified(base, pairs)))
        merged.append(node.published(tmp_path / kind / "out"))
    adapter, dense = merged
    length = norm(adapter[name].double() - base[name].double() for name in base if base[name].is_floating_point())
    # Dense weights were rounded to float32 beside a base of 0.05: an error that no merge can take back.
    assert norm(adapter[name].double() - dense[name].double() for name in base) <= 1e-5 * length


def test_the_state_on_disk_is_never_the_committed_one(tmp_path: Path) -> None:
    """A fold writes new files; the committed generation keeps its bytes until it is retired."""
    base = random_base()
    node = LocalNode(tmp_path, write_model(tmp_path / "base", base))
    node.fold(write_model(tmp_path / "tuned-1", fine_tune(base, 1)))
    committed = {path.name: path.read_bytes() for path in node.folder.iterdir()}
    node.generations.discard()
    tuned = write_model(tmp_path / "tuned-2", fine_tune(base, 2))
    node.engine.fold(Candidate("inbox", "tuned-2", "1", str(tuned)), node.head, SILENT)
    assert {path.name: path.read_bytes() for path in node.folder.iterdir()} == committed
    assert (node.engine.folding / "manifest.json").exists()
