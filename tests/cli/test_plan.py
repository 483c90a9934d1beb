"""plan: the most that a node takes, compared with what it takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.support.real_node import RealNode

METHODS = ("opcm", "task_arithmetic", "ties", "aswudi")


def planned(run, node: RealNode) -> dict[str, object]:
    result = run("plan", "-c", node.config, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def stored_bytes(folder: Path) -> int:
    """Of the tensors in statistics files, without headers."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            total += sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118 - not a mapping
    return total


@pytest.mark.parametrize("method", METHODS)
def test_statistics_take_what_the_plan_says(run, tmp_path: Path, method: str) -> None:
    node = RealNode(tmp_path, method={"name": method})
    plan = planned(run, node)
    assert not node.state.exists(), "planning leaves nothing behind"
    for seed, name in enumerate("abc", start=1):
        node.put(name, seed)
    node.run_once()
    statistics = next(need for need in plan["disk"] if need["what"].startswith("statistics"))  # type: ignore[attr-defined]  # JSON
    stored = stored_bytes(node.state / "statistics" / "g00000003")
    assert stored <= statistics["each"] <= 1.05 * stored
    version = next(need for need in plan["disk"] if need["what"].startswith("versions"))  # type: ignore[attr-defined]  # JSON
    assert stored_bytes(node.published / "latest") == version["each"]
    assert version["count"] == 6


def test_snapshots_and_replays_are_counted(run, tmp_path: Path) -> None:
    node = RealNode(tmp_path, snapshots={"every": 10, "keep": 4})
    plan = planned(run, node)
    counts = {need["what"].split(":")[0].split(" (")[0]: need["count"] for need in plan["disk"]}  # type: ignore[attr-defined]  # JSON
    assert counts["snapshots"] == 4
    assert counts["a replay under way, when contributions leave"] == 2
    assert plan["disk_bytes"] == sum(need["bytes"] for need in plan["disk"])  # type: ignore[attr-defined]  # JSON
    assert "replays" in plan["retracts"]  # type: ignore[operator]  # JSON
    text = run("plan", "-c", node.config).stdout
    assert "at most" in text and "snapshots (snapshots.keep)" in text


def test_a_limit_that_cannot_hold_is_told_before_a_start(run, tmp_path: Path) -> None:
    node = RealNode(tmp_path, engine={"threads": 1, "device": "cpu", "memory_limit": "64MiB"})
    result = run("plan", "-c", node.config)
    assert result.exit_code == 1
    assert "memory_limit" in result.stderr


def test_patterns_that_match_nothing_are_told(run, tmp_path: Path) -> None:
    method = {"name": "iso", "profile": {"*.mlp.*": 0.5, "*.mpl.*": 0.5}, "exclude": ["*embed*", "*wte.*", "*.gone.*"]}
    node = RealNode(tmp_path, method=method)
    told = [line for line in run("plan", "-c", node.config).stderr.splitlines() if "matches no tensor" in line]
    assert [line.split(" hint=")[0] for line in told] == [
        "warning: method.profile: the pattern '*.mpl.*' matches no tensor of the base",
        "warning: method.exclude: the pattern '*.gone.*' matches no tensor of the base",
    ]
    node.run_once()
    warned = [entry["message"] for entry in map(json.loads, node.log.splitlines()) if entry["level"] == "warning"]
    assert [line for line in warned if "matches no tensor" in line] == [
        "method.profile: the pattern '*.mpl.*' matches no tensor of the base",
        "method.exclude: the pattern '*.gone.*' matches no tensor of the base",
    ]


def test_figures_of_plan_and_advise_are_told_apart(run, tmp_path: Path) -> None:
    node = RealNode(tmp_path)
    plan, advice = run("plan", "-c", node.config).stdout, run("advise", "-c", node.config).stdout
    assert "at most, buffers included" in plan and "at most, without the ledger" in plan
    assert "least memory" in " ".join(advice.split())
