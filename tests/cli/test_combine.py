"""combine: what it prints, what it warns of, how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bootstrap.test_combination import World, assert_sound, retract


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
