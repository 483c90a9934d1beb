"""advise: the measured methods for a real base, and what rules them out."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.real_node import RealNode


def advised(run, node: RealNode, *options: str) -> dict[str, object]:
    result = run("advise", "-c", node.config, *options, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_node_that_never_ran_is_advised_by_its_base_alone(run, tmp_path: Path) -> None:
    node = RealNode(tmp_path)
    told = advised(run, node, "--contributions", "9")
    assert told["node"] == {
        "method": "opcm", "contributions": 0, "adapters": 0, "relative_norm": None, "cosine": None,
    }  # fmt: skip
    assert (told["setting"], told["count"]) == ("strong", 9)
    methods = told["methods"]
    assert isinstance(methods, list) and len(methods) >= 10
    possible = [entry for entry in methods if not entry["against"]]
    assert [entry["kept"] for entry in possible] == sorted((entry["kept"] for entry in possible), reverse=True)
    assert possible[0]["kept"] > 0.8 > next(entry["kept"] for entry in methods if entry["method"] == "opcm")
    assert not node.state.exists()


def test_what_the_operator_needs_rules_methods_out(run, tmp_path: Path) -> None:
    node = RealNode(tmp_path)
    told = advised(run, node, "--retract", "--combine", "--contributions", "40")
    assert (told["setting"], told["count"]) == ("many", 36)
    against = {entry["method"]: entry["against"] for entry in told["methods"]}  # type: ignore[attr-defined]  # JSON
    assert against["opcm"] == ["retracts by replay only", "cannot be combined"]
    assert against["tsvm"] == ["retracts by replay only"]
    assert against["aswudi"] == []
    assert all("side-cars" in against[name][0] for name in ("fisher", "regmean") if name in against)


def test_its_own_contributions_count(run, tmp_path: Path) -> None:
    node = RealNode(tmp_path)
    for seed, name in enumerate("ab", start=1):
        node.put(name, seed)
    node.run_once()
    told = advised(run, node)
    assert told["node"]["contributions"] == 2  # type: ignore[index]  # JSON
    assert told["node"]["relative_norm"] > 0  # type: ignore[index]  # JSON
    assert told["count"] == 2
    text = run("advise", "-c", node.config).stdout
    assert "advised" in text and "opcm, 2 contributions, 0 of them adapters" in text
