"""run: exit codes and messages, in this process with --once."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mergenode.adapters.store.lock import StateLock
from tests.support.real_node import RealNode


@pytest.fixture
def node(tmp_path: Path) -> RealNode:
    return RealNode(tmp_path)


def test_once_folds_publishes_and_exits_0(run, node: RealNode) -> None:
    node.put("a", 1)
    result = run("run", "-c", node.config, "--once")
    assert result.exit_code == 0
    assert node.outcomes() == {"a": ["folded"]} and node.versions() == [1]
    assert result.stdout == "" and "version 1 is visible" in result.stderr


def test_once_over_nothing_exits_0(run, node: RealNode) -> None:
    assert run("run", "-c", node.config, "--once").exit_code == 0


def test_once_exits_0_when_some_were_rejected(run, node: RealNode) -> None:
    (node.inbox / "bad.safetensors").write_bytes(b"\0" * 100)
    assert run("run", "-c", node.config, "--once").exit_code == 0
    assert node.outcomes() == {"bad.safetensors": ["header_too_short"]}


def test_once_exits_1_when_something_was_left_undone(run, node: RealNode) -> None:
    file = node.put("half", 1) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    result = run("run", "-c", node.config, "--once")
    assert result.exit_code == 1
    assert "1 that are not complete yet" in result.stderr


def test_logs_as_json(run, node: RealNode) -> None:
    node.configure(log={"format": "json"})
    result = run("run", "-c", node.config, "--once")
    assert all(json.loads(line)["message"] for line in result.stderr.splitlines())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"enigne": {"threads": 1}}, ["enigne", "engine"]),
        ({"method": {"name": "opmc"}}, ["opmc", "opcm"]),
        ({"publish": {"keep": 0}}, ["publish.keep"]),
        ({"http": {"listen": "nowhere"}}, ["http.listen"]),
        ({"node": {"state": "./inbox/state"}}, ["node.state", "registries"]),
    ],
)
def test_wrong_settings_name_the_line_and_exit_2(run, node: RealNode, settings: dict, words: list[str]) -> None:
    node.configure(**settings)
    result = run("run", "-c", node.config, "--once")
    assert result.exit_code == 2 and result.stdout == ""
    for word in words:
        assert word in result.stderr
    assert re.search(re.escape(str(node.config)) + r":\d+: ", result.stderr), "the file and the line"
    assert not node.state.exists()


def test_no_settings_file(run, tmp_path: Path) -> None:
    result = run("run", "-c", tmp_path / "nowhere.yaml")
    assert result.exit_code == 2 and "nowhere.yaml" in result.stderr


def test_without_settings_it_is_wrong_usage(run) -> None:
    assert run("run").exit_code == 2


def test_a_second_node_is_refused_and_the_first_is_named(run, node: RealNode) -> None:
    run("run", "-c", node.config, "--once")
    with StateLock(node.state, node="first"):
        result = run("run", "-c", node.config, "--once")
    assert result.exit_code == 1 and "first" in result.stderr and "error: " in result.stderr


@pytest.mark.parametrize("change", ["base", "method"])
def test_a_changed_base_or_method_is_one_clear_line(run, node: RealNode, change: str) -> None:
    node.put("a", 1)
    run("run", "-c", node.config, "--once")
    if change == "base":
        node.put("other", 50).joinpath("model.safetensors").replace(node.base / "model.safetensors")
    else:
        node.configure(method={"name": "average"})
    result = run("run", "-c", node.config, "--once")
    assert result.exit_code == (1 if change == "base" else 2), "no restart helps against wrong settings"
    errors = [line for line in result.stderr.splitlines() if line.startswith(("error: ", "hint: "))]
    assert len(errors) == 2 and "this state directory was made" in errors[0] and "node.state" in errors[1]
