"""Nodes of a union on real files: what they publish is the same, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mergenode.errors import FatalError, UsageError
from mergenode.settings import load_settings
from tests.support.checkpoints import Tensors, base_tensors, write_single
from tests.support.local_node import load_model, same_bits
from tests.support.real_node import RealNode
from tests.support.united_nodes import UnitedNode, assert_same_model, moved, settle, small_base


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


def test_the_union_is_what_one_node_has_that_folded_everything(stack: ExitStack, tmp_path: Path) -> None:
    """Bit for bit where sums are exact (whole numbers here); to the rounding of the sums otherwise."""
    for case, whole in (("exact", True), ("rounded", False)):
        base = small_base(whole=whole)
        root = tmp_path / case
        nodes = nodes_of(stack, root, 3, base, method={"name": "task_arithmetic", "scale": 1.0})
        alone = RealNode(root / "alone", tensors=base, method={"name": "task_arithmetic", "scale": 1.0})
        for number in range(6):
            tuned = moved(base, number, whole=whole)
            write_single(nodes[number % 3].real.inbox / f"m{number}", tuned)
            write_single(alone.inbox / f"m{number}", tuned)

        settle(*nodes)
        alone.run_once()

        assert_same_model(*nodes)
        expected, there = load_model(alone.published / "latest"), nodes[0].published()
        deltas = [moved(base, number, whole=whole) for number in range(6)]
        for name, tensor in there.items():
            if whole:
                assert same_bits(tensor, expected[name])
                continue
            masses = sum((tuned[name].double() - base[name].double()).abs() for tuned in deltas)
            # Two orders of n - 1 additions, each of relative error u = 2^-24; the last term is the sum with the base.
            bound = 2 * 5 * 2.0**-24 * masses + 2.0**-23 * (base[name].double().abs() + masses)
            assert bool(((tensor.double() - expected[name].double()).abs() <= bound).all())


def test_a_retraction_anywhere_is_one_everywhere(stack: ExitStack, tmp_path: Path) -> None:
    nodes = nodes_of(stack, tmp_path, 3, small_base(whole=False), method={"name": "iso"})
    for number, node in enumerate(nodes):
        write_single(node.real.inbox / f"m{number}", moved(small_base(whole=False), number, whole=False))
    settle(*nodes)
    without = {entry["content"] for entry in nodes[0].manifest["contributions"] if entry["name"] != "m2"}

    nodes[0].retract("m2", why="consent withdrawn")
    settle(*nodes)

    assert_same_model(*nodes)
    assert {entry["content"] for entry in nodes[1].manifest["contributions"]} == without
    (fact,) = nodes[2].real.facts("retracted")
    assert fact.why == "consent withdrawn"  # type: ignore[attr-defined]  # of that kind
    assert nodes[2].rest() == 0, "it does not come back by itself"


def test_a_node_that_starts_again_goes_on_from_its_facts(stack: ExitStack, tmp_path: Path) -> None:
    nodes = nodes_of(stack, tmp_path, 2, small_base(whole=False), method={"name": "iso"})
    for number, node in enumerate(nodes):
        write_single(node.real.inbox / f"m{number}", moved(small_base(whole=False), number, whole=False))
    settle(*nodes)
    versions = nodes[0].manifest["version"]
    nodes[0].stop()
    nodes[0].start()

    settle(*nodes)

    assert nodes[0].manifest["version"] == versions
    assert_same_model(*nodes)


def test_a_method_that_cannot_add_up_is_refused(tmp_path: Path) -> None:
    node = UnitedNode(tmp_path, 0, small_base(whole=False), {"method": {"name": "opcm"}})
    with pytest.raises(UsageError, match="opcm cannot be added up"):
        node.start()
    node.stop()


def test_versions_of_a_node_that_was_alone_are_not_written_over(tmp_path: Path) -> None:
    node = UnitedNode(tmp_path, 0, small_base(whole=False), {"method": {"name": "iso"}})
    node.real.configure(method={"name": "iso"})
    write_single(node.real.inbox / "m", moved(small_base(whole=False), 1, whole=False))
    node.real.run_once()
    node.real.configure(method={"name": "iso"}, mixer={"name": "union"})
    with pytest.raises(FatalError, match="before it was in a union"):
        node.start()
    node.stop()
    node.real.configure(method={"name": "iso"}, mixer={"name": "union"}, publish={"path": "./union"})
    node.start()
    assert node.rest() > 0
    assert load_settings(node.real.config).publish.path.joinpath("latest").exists()
    node.stop()
