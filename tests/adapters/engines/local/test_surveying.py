"""Methods that look at a whole delta first and fold it in slices: as if every tensor had come whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mergenode.adapters.engines.local import memory, tensors
from mergenode.adapters.engines.local.engine import Resources
from mergenode.adapters.engines.local.fold import FoldPass
from mergenode.adapters.engines.local.restate import LocalRestater
from mergenode.errors import RejectedError, RejectReason
from mergenode.ledger.restatement import Subtract
from mergenode.types import Candidate, Head
from tests.support.literal_sums import ties
from tests.support.local_node import SILENT, LocalNode, load_model, merge, same_bits
from tests.support.models import factors, fine_tune, random_base, write_lora, write_model

MIB = 1 << 20
WHOLE, SMALL = 1 << 18, 100
"""Elements of a slice: more than any tensor here has, and less than a row of some."""
SURVEYED = ("ties", "dare")
ADAPTED = "layers.0.mlp.up_proj"


def world(root: Path) -> tuple[Path, list[Path]]:
    """A base, two fine-tunes and an adapter."""
    base = random_base(dtype=torch.float32)
    shapes = {name: tuple(tensor.shape) for name, tensor in base.items()}
    pairs = factors([ADAPTED], shapes, 3)
    models = [write_model(root / f"tuned-{number}", fine_tune(base, number)) for number in (1, 2)]
    return write_model(root / "base", base), [*models, write_lora(root / "adapter", pairs)]


def statistics(node: LocalNode) -> dict[str, Tensor]:
    return load_model(node.folder)


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Bit for bit; where the adapter is, up to the last bits of a product of factors, which depend on its rows."""
    return left.keys() == right.keys() and all(_close(name, left[name], right[name]) for name in left)


def _close(name: str, left: Tensor, right: Tensor) -> bool:
    if name.endswith(f"{ADAPTED}.weight") and left.is_floating_point():
        return bool(torch.allclose(left, right, rtol=0, atol=1e-6))
    return same_bits(left, right)


@pytest.mark.parametrize("method", SURVEYED)
def test_slices_give_the_same_statistics_and_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    base, models = world(tmp_path)
    nodes, merged = {}, {}
    for size in (WHOLE, SMALL):
        monkeypatch.setattr(tensors, "SLICE_ELEMENTS", size)
        node = nodes[size] = LocalNode(tmp_path / f"node-{size}", base, method)
        for path, weight in zip(models, (1.0, 0.5, 1.0), strict=True):
            node.fold(path, weight)
        merge(base, tmp_path / f"once-{size}", models, method=method)
        merged[size] = [node.published(tmp_path / f"out-{size}"), load_model(tmp_path / f"once-{size}")]
    assert same(statistics(nodes[WHOLE]), statistics(nodes[SMALL]))
    assert all(same(*versions) for versions in zip(merged[WHOLE], merged[SMALL], strict=True))


def test_a_tensor_of_several_slices_is_merged_as_defined(tmp_path: Path) -> None:
    """Large enough for a sample of the magnitudes: nothing is replaced."""
    draw = torch.Generator().manual_seed(1)
    rows = torch.rand(1400, 1, generator=draw).exp()
    base = {"embed.weight": torch.randn(1400, 200, generator=draw), "bias": torch.randn(7, generator=draw)}
    vectors = [
        {name: 0.01 * torch.randn(w.shape, generator=draw) * (rows if w.ndim == 2 else 1) for name, w in base.items()}
        for _ in range(3)
    ]
    assert base["embed.weight"].numel() > tensors.SLICE_ELEMENTS
    node = LocalNode(tmp_path / "node", write_model(tmp_path / "base", base), "ties")
    deltas: dict[str, list[Tensor]] = {name: [] for name in base}
    for number, vector in enumerate(vectors):
        tuned = {name: weight + vector[name] for name, weight in base.items()}
        node.fold(write_model(tmp_path / f"{number}", tuned))
        for name, weight in base.items():
            deltas[name].append(tuned[name] - weight)
    published = node.published(tmp_path / "out")
    for name, weight in base.items():
        expected = ties([delta.double() for delta in deltas[name]], 0.2)
        moved = published[name].double() - weight.double()
        assert float((moved - expected).abs().max()) <= 1e-6


@pytest.mark.parametrize("method", SURVEYED)
def test_what_entered_in_slices_leaves_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr(tensors, "SLICE_ELEMENTS", SMALL)
    base, models = world(tmp_path)
    node, never = LocalNode(tmp_path / "node", base, method), LocalNode(tmp_path / "never", base, method)
    for path in models:
        node.fold(path)
    for path in (models[0], models[2]):
        never.fold(path)
    gone = Candidate("inbox", models[1].name, "1", str(models[1]), content=node.results[1].content, forced=True)
    result = LocalRestater(node.engine).restate(Subtract(node.head, (gone,)), SILENT)
    node.generations.install(node.head.generation + 1)
    node.head = Head(node.head.generation + 1, 2, result.totals, result.statistics)
    left, other = statistics(node), statistics(never)
    assert left.keys() == other.keys()
    for name, tensor in left.items():
        if tensor.dtype is torch.int16:
            assert torch.equal(tensor, other[name])
        torch.testing.assert_close(tensor, other[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("place", [0, 150, -1])
def test_a_diverged_run_is_refused_by_its_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    monkeypatch.setattr(tensors, "SLICE_ELEMENTS", SMALL)
    base = random_base(dtype=torch.float32)
    tuned = fine_tune(base, 1)
    name = f"{ADAPTED}.weight"
    assert tuned[name].numel() > 2 * SMALL
    tuned[name].view(-1)[place] = float("nan")
    node = LocalNode(tmp_path / "node", write_model(tmp_path / "base", base), "ties")
    with pytest.raises(RejectedError, match=name) as caught:
        node.fold(write_model(tmp_path / "tuned", tuned))
    assert caught.value.reason is RejectReason.NOT_FINITE


def test_a_large_embedding_needs_little(tmp_path: Path) -> None:
    """Less than the embedding itself in float32, 64 MiB: only the magnitudes near the threshold are held at once."""
    shape = (65536, 256)
    base = write_model(tmp_path / "base", {"embed.weight": torch.zeros(shape, dtype=torch.bfloat16)})
    needs = {}
    for method in ("average", "iso", *SURVEYED):
        node = LocalNode(tmp_path / method, base, method, resources=Resources(memory_limit=4096 * MIB))
        with node.engine.open_base() as files:
            work = FoldPass(
                base=node.described, base_files=files, sources=[], method=node.engine.method,
                folder=tmp_path / f"{method}-fold", previous=None, device=torch.device("cpu"),
            )  # fmt: skip
            needs[method] = memory.largest_need(node.described, work, 1)[0]
    assert needs["average"] == needs["iso"] <= needs["dare"] < needs["ties"] < 64 * MIB
