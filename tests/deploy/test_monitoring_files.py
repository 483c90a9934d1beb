"""Rules and dashboards of the chart ask for metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.manifests import ROOT

FILES = ROOT / "deploy/helm/mergenode/files"
RULES, DASHBOARDS = sorted(FILES.glob("rules/*.yaml")), sorted(FILES.glob("dashboards/*.json"))
METRICS = set(re.findall(r"^\| `((?:mergenode|process)_\w+)` \|", (ROOT / "docs/metrics.md").read_text("utf-8"), re.M))


def unknown(text: str) -> set[str]:
    """Names in a query that no node exports."""
    names = re.findall(r"\b(?:mergenode|process)_[a-z_]+\b", text)
    return {each for each in names if re.sub(r"_(bucket|sum|count)$", "", each) not in METRICS and each not in METRICS}


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_alerts_are_complete(path: Path) -> None:
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            assert re.fullmatch("Mergenode[A-Za-z]+", rule["alert"])
            assert rule["labels"]["severity"] in ("critical", "warning", "info")
            assert {"summary", "description"} <= set(rule["annotations"])
            assert unknown(rule["expr"]) == set(), rule["alert"]


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_prometheus_accepts_the_rules(path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: install Prometheus")
    done = subprocess.run([promtool, "check", "rules", path], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_dashboards_can_be_provisioned(path: Path) -> None:
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    assert "__inputs" not in dashboard and dashboard["editable"] is False
    assert dashboard["templating"]["list"][0]["type"] == "datasource"
    for panel in dashboard["panels"]:
        assert panel["title"] and panel["description"] and panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert unknown(target["expr"]) == set(), panel["title"]


def test_there_are_rules_and_dashboards() -> None:
    assert RULES and DASHBOARDS
