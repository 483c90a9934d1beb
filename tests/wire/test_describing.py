"""Manifests of real checkpoints: what the weights are counts, not how they are stored."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from mergenode.adapters.checkpoints.weights import open_weights
from mergenode.types import DType
from mergenode.wire.blocks import BLOCK_BYTES
from mergenode.wire.describing import describe
from mergenode.wire.manifest import Manifest


def described(path: Path) -> Manifest:
    with open_weights(path) as files:
        return describe(files.specs.values(), files.read_into)


def test_files_shards_and_headers_do_not_matter(tmp_path: Path) -> None:
    source = torch.Generator().manual_seed(0)
    large = torch.randn(BLOCK_BYTES // 4 + 10, 2, generator=source).to(torch.bfloat16)
    small = torch.randn(3, 5, generator=source)
    save_file({"a.large": large, "b.small": small}, tmp_path / "one.safetensors")
    other = {"b.small": small, "a.large": large}
    save_file(other, tmp_path / "two.safetensors", metadata={"format": "pt", "note": "another header"})
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    save_file({"b.small": small}, sharded / "model-00001-of-00002.safetensors")
    save_file({"a.large": large}, sharded / "model-00002-of-00002.safetensors")
    index = (
        '{"weight_map": {"b.small": "model-00001-of-00002.safetensors", "a.large": "model-00002-of-00002.safetensors"}}'
    )
    (sharded / "model.safetensors.index.json").write_text(index)

    one = described(tmp_path / "one.safetensors")
    assert one.packed == described(tmp_path / "two.safetensors").packed == described(sharded).packed
    assert [entry.spec.dtype for entry in one.tensors] == [DType.BF16, DType.F32]
    assert [place.length for place in one.places()] == [BLOCK_BYTES, 40, 60]
    assert abs(one.tensors[1].figures.l2 - float(torch.linalg.vector_norm(small.double()))) < 1e-12
    assert one.tensors[0].figures.max_abs == float(large.abs().max())


def test_one_value_changes_one_block(tmp_path: Path) -> None:
    weights = torch.zeros(BLOCK_BYTES // 2, dtype=torch.float32)
    save_file({"w": weights, "v": torch.ones(4)}, tmp_path / "before.safetensors")
    weights[-1] = torch.nan
    save_file({"w": weights, "v": torch.ones(4)}, tmp_path / "after.safetensors")
    before, after = (described(tmp_path / f"{name}.safetensors") for name in ("before", "after"))
    ids = [[place.id for place in manifest.places()] for manifest in (before, after)]
    assert [first == second for first, second in zip(*ids, strict=True)] == [True, True, False]
    assert before.schema_hash == after.schema_hash
    assert [entry.figures.finite for entry in after.tensors] == [True, False]
