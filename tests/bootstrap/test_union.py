"""Nodes of a union on real files: what they publish is the same, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.checkpoints import Tensors, base_tensors
from tests.support.local_node import same_bits
from tests.support.united_nodes import UnitedNode, settle


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def nodes_of(stack: ExitStack, root: Path, count: int, tensors: Tensors, **settings: object) -> list[UnitedNode]:
    nodes = [UnitedNode(root / f"n{number}", number, tensors, settings) for number in range(count)]
    for node in nodes:
        node.start()
        stack.callback(node.stop)
    return nodes


def assert_same_model(*nodes: UnitedNode) -> None:
    first = nodes[0].published()
    for node in nodes[1:]:
        there = node.published()
        assert there.keys() == first.keys()
        assert all(same_bits(first[name], there[name]) for name in first)
        for key in ("model", "lineage", "contributions", "parts", "count", "tensors", "statistics"):
            assert node.manifest[key] == nodes[0].manifest[key], key


@pytest.mark.parametrize("method", ["iso", "aswudi", "magmax", "ties"])
def test_three_nodes_that_fold_different_things_publish_the_same_bytes(
    stack: ExitStack, tmp_path: Path, method: str
) -> None:
    nodes = nodes_of(stack, tmp_path, 3, base_tensors(), method={"name": method})
    for number, node in enumerate(nodes):
        node.real.put(f"m{number}", seed=number)
    nodes[0].real.put("again", seed=1)

    settle(*nodes)

    assert_same_model(*nodes)
    manifest = nodes[0].manifest
    assert [entry["name"] for entry in manifest["contributions"]] != []
    assert manifest["count"] == len({entry["content"] for entry in manifest["contributions"]}) == 3
    assert all(not node.exchange.accused for node in nodes)
