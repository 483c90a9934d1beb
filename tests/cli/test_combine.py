"""combine: what it prints, what it warns of, how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mergenode.cli.combine import how_uneven
from tests.bootstrap.test_combination import World, assert_sound, retract
from tests.support.checkpoints import load_single
from tests.support.facts import admitted
from tests.support.real_node import RealNode


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(tmp_path)
    return World(tmp_path)


@pytest.fixture
def combine(run, world: World):
    def invoke(*args: object, base: object = "base", output: object = "both/state") -> Any:
        return run("combine", "a/state", "b/state", "--base", base, "--output", output, "--threads", 1, *args)

    return invoke


def test_it_says_what_was_added_up(world: World, combine) -> None:
    world.node("a", "one", "two")
    world.node("b", "two", "three")
    result = combine()
    assert result.exit_code == 0, result.stderr
    assert "3 contributions: 2 and 2, 1 of them in both" in result.stdout
    assert "both were added up, after 1 in both left one of them" in result.stdout
    assert result.stderr == ""
    assert_sound(world.root / "both" / "state")


def test_json_is_one_document(world: World, combine) -> None:
    a, b = world.node("a", "one"), world.node("b", "two", "one")
    result = combine("--json")
    document = json.loads(result.stdout)
    assert (document["count"], document["counts"], document["shared"]) == (2, [1, 2], 1)
    assert (document["taken_over"], document["subtracted"]) == ("b", 0)
    assert document["statistics"] == b.head.statistics
    assert document["base"] == a.described.digest
    assert document["method"]["name"] == "average"
    assert document["output"] == "both/state"


def test_two_weights_and_a_retraction_are_told(world: World, combine) -> None:
    a = world.node("a", "one", "two", "three", weights=(0.5, 1.0, 1.0))
    world.node("b", "one", "two", "four")
    retract(a, "two")
    result = combine("--json")
    assert result.exit_code == 0, result.stderr
    assert "'one' weighs 0.5 in the first state and 1 in the second: 0.5 counts" in result.stderr
    assert "'two' was retracted in one state and is in the other" in result.stderr
    document = json.loads(result.stdout)
    assert [entry["name"] for entry in document["uneven"]] == ["one"]
    assert document["contested"] == ["two"] and document["retracted"] == []


def test_another_profile_is_not_called_another_weight() -> None:
    plain, halved = admitted(1), admitted(1, profile=(("*mlp*", 0.5),))
    assert how_uneven(plain, halved) == "'m1' has another profile in the second state: that of the first counts"
    heavy = admitted(1, weight=2.0, profile=(("*mlp*", 0.5),))
    told = "'m1' weighs 1 in the first state and 2 in the second: 1 counts, with the profile of the first"
    assert how_uneven(plain, heavy) == told


def test_wrong_usage_ends_with_two_and_failure_with_one(world: World, combine, run) -> None:
    world.node("a", "one", "two")
    assert combine().exit_code == 2  # there is no second state
    world.node("b", "two", "three")
    assert combine(base="nowhere").exit_code == 2
    assert combine("--memory-limit", "much").exit_code == 2
    assert combine(output="a").exit_code == 2
    (world.root / "in" / "two").rename(world.root / "aside")
    failed = combine()
    assert failed.exit_code == 1
    assert "'two'" in failed.stderr and "hint: " in failed.stderr
    assert not (world.root / "both").exists()


def test_what_came_from_the_other_node_can_be_taken_out_again(run, tmp_path: Path) -> None:
    nodes = [RealNode(tmp_path / name, method={"name": "average"}) for name in ("a", "b", "both", "never")]
    for node, seeds in zip(nodes, ((1, 2), (2, 3), (), (1, 2)), strict=True):
        for seed in seeds:
            node.put(f"m{seed}", seed)
        assert not seeds or node.run_once().complete
    a, b, both, never = nodes
    made = run("combine", a.state, b.state, "--base", both.base, "--output", both.state)
    assert made.exit_code == 0, made.stderr
    assert both.run_once().complete
    assert run("verify", "-c", both.config).exit_code == 0

    taken = run("retract", "m3", "-c", both.config)

    assert taken.exit_code == 0, taken.stderr
    assert [entry["name"] for entry in both.manifest()["contributions"]] == ["m1", "m2"]
    assert run("verify", "-c", both.config).exit_code == 0
    left, expected = (load_single(node.published / "latest") for node in (both, never))
    for name, tensor in expected.items():
        if tensor.is_floating_point():
            assert torch.allclose(left[name].double(), tensor.double(), rtol=2**-7, atol=1e-6)
