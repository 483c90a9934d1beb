"""What statistics take on disk, as files, is what ``state_factor`` says, however many contributions there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.models import Shape, write_suite
from mergenode.adapters.engines.local.shards import shard_layout
from mergenode.adapters.engines.local.tensors import accumulator_dtype
from mergenode.methods import METHODS, build_method
from mergenode.types import TensorSpec
from tests.support.local_node import LocalNode

FAMILY = [name for name in METHODS if not build_method(name, {}).needs]
LLAMA = Shape(hidden=128, layers=1, intermediate=344, vocab=512, heads=4, kv_heads=2)
DENSE = 3


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama in small, in the usual proportions, three full fine-tunes of it and an adapter."""
    root = tmp_path_factory.mktemp("llama")
    write_suite(root, LLAMA, fine_tunes=DENSE, adapters=1)
    return root


def stated(node: LocalNode, names: set[str]) -> float:
    """Bytes that the statistics of these tensors take at most, by what the method says."""
    factor = node.engine.method.state_factor

    def nbytes(spec: TensorSpec) -> float:
        return factor(spec) * spec.numel * accumulator_dtype(spec).itemsize

    return sum(nbytes(spec) for specs in shard_layout(node.described) for spec in specs if spec.name in names)


def on_disk(node: LocalNode) -> int:
    return sum(path.stat().st_size for path in node.folder.glob("shard-*.safetensors"))


@pytest.mark.parametrize("method", FAMILY)
def test_full_checkpoints_take_what_is_stated(suite: Path, tmp_path: Path, method: str) -> None:
    """After one, three and eight of them, headers of the files included."""
    node = LocalNode(tmp_path, suite / "base", method)
    for count in range(1, 9):
        node.fold(suite / f"tuned-{count % DENSE + 1}")
        if count in (1, 3, 8):
            bound = stated(node, set(node.records()))
            assert on_disk(node) <= 1.05 * bound, (count, on_disk(node) / bound)
            if (method, count) != ("widen", 1):  # it keeps a single contribution's weights as they are
                assert on_disk(node) >= 0.95 * bound, (count, on_disk(node) / bound)


@pytest.mark.parametrize("method", FAMILY)
def test_adapters_take_no_more_and_only_for_what_they_touch(suite: Path, tmp_path: Path, method: str) -> None:
    node = LocalNode(tmp_path, suite / "base", method)
    for count in range(1, 9):
        node.fold(suite / "adapter-1")
        if count in (1, 3, 8):
            touched = {name for name, record in node.records().items() if record["statistics"]}
            bound = stated(node, touched)
            assert on_disk(node) <= 1.05 * bound, count
            if method != "tsvm":  # it keeps as many directions as there are
                assert on_disk(node) >= 0.95 * bound, count
    assert 0 < len(touched) < len(node.records())
