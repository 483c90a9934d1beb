"""verify: exit codes and lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.real_node import RealNode


@pytest.fixture
def node(tmp_path: Path) -> RealNode:
    node = RealNode(tmp_path)
    node.put("a", 1)
    node.run_once()
    return node


def test_all_is_well(run, node: RealNode) -> None:
    result = run("verify", "-c", node.config, "--replay")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "all is well"
    assert sum(line.startswith("checked  ") for line in result.stdout.splitlines()) == 4


def test_problems_are_lines_and_exit_1(run, node: RealNode) -> None:
    (node.published / "v000001/model.safetensors").unlink()
    result = run("verify", "-c", node.config)
    assert result.exit_code == 1
    problems = [line for line in result.stdout.splitlines() if line.startswith("PROBLEM  ")]
    assert len(problems) == 1 and "v000001" in problems[0]
    assert result.stdout.splitlines()[-1] == "1 problems"


def test_json(run, node: RealNode) -> None:
    told = json.loads(run("verify", "-c", node.config, "--json").stdout)
    assert told["ok"] and told["problems"] == [] and len(told["checked"]) == 3
    (node.published / "v000001/mergenode.json").write_text("{}")
    result = run("verify", "-c", node.config, "--json")
    assert result.exit_code == 1 and not json.loads(result.stdout)["ok"]


def test_a_node_that_never_ran(run, tmp_path: Path) -> None:
    result = run("verify", "-c", RealNode(tmp_path).config)
    assert result.exit_code == 1 and result.stderr.startswith("error: ") and "ledger" in result.stderr


def test_it_works_beside_a_running_node(run, node: RealNode) -> None:
    from mergenode.adapters.store.lock import StateLock

    with StateLock(node.state, node="running"):
        assert run("verify", "-c", node.config).exit_code == 0
