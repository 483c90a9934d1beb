"""The table of tensors against the statistics themselves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from torch.nn.functional import cosine_similarity

from mergenode.adapters.checkpoints.base_cache import base_of
from mergenode.adapters.checkpoints.weights import DEFAULT_LIMITS
from mergenode.adapters.engines.local import shards
from mergenode.adapters.engines.local.tensor_table import TensorTable
from mergenode.errors import FatalError, TransientError
from tests.support.local_node import SILENT, LocalNode, load_model
from tests.support.models import fine_tune, random_base, write_model


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalNode:
    """Two folds of an average, in many small shards."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 8 << 10)
    base = random_base()
    node = LocalNode(tmp_path, write_model(tmp_path / "base", base), "task_arithmetic")
    base_of(node.base, cache=tmp_path / "base.json", limits=DEFAULT_LIMITS, observer=SILENT)
    for number in (1, 2):
        node.fold(write_model(tmp_path / "in" / str(number), fine_tune(base, number)))
    return node


def test_figures_are_those_of_the_tensors(node: LocalNode) -> None:
    rows = {row["name"]: row for row in TensorTable(node.generations, node.root / "base.json")(2) or ()}
    base, first, second = (load_model(path) for path in (node.base, node.root / "in" / "1", node.root / "in" / "2"))
    assert {"layers.0.attn.q_proj.weight", "layers.0.norm.weight"} & set(rows) and len(
        list(node.folder.glob("shard-*.json"))
    ) > 2
    for name, row in rows.items():
        old, new = ((model[name].double() - base[name].double()).flatten() for model in (first, second))
        assert row["delta_norm"] == pytest.approx(new.norm().item(), rel=1e-5)
        assert row["base_norm"] == pytest.approx(base[name].double().norm().item(), rel=1e-6)
        assert row["merge_norm"] == pytest.approx((old + new).norm().item(), rel=1e-4)
        assert row["cosine"] is None or row["cosine"] == pytest.approx(
            cosine_similarity(old, new, dim=0).item(), abs=1e-3
        )
        assert (row["shape"], row["share_kept"]) == (
            list(base[name].shape),
            pytest.approx(1.0) if row["delta_norm"] else None,
        )
        assert name.startswith(row["group"])


def test_without_a_description_of_the_base_its_figures_are_unknown(node: LocalNode) -> None:
    rows = list(TensorTable(node.generations, node.root / "none.json")(2) or ())
    assert rows and all(
        row["base_norm"] is None and row["shape"] is None and row["delta_norm"] is not None for row in rows
    )


def test_a_generation_that_is_not_there_has_no_table(node: LocalNode) -> None:
    assert TensorTable(node.generations, node.root / "base.json")(1) is None


def test_one_that_is_removed_meanwhile_is_asked_for_again(node: LocalNode) -> None:
    rows = TensorTable(node.generations, node.root / "base.json")(2)
    assert rows is not None and next(rows)
    shutil.rmtree(node.folder)
    with pytest.raises(TransientError) as error:
        list(rows)
    assert error.value.hint == "Ask again."


def test_a_damaged_one_says_so(node: LocalNode) -> None:
    (node.folder / "manifest.json").unlink()
    with pytest.raises(FatalError):
        list(TensorTable(node.generations, node.root / "base.json")(2) or ())
