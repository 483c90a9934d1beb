"""What deploy/observability writes, as those read it who watch nodes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "observability"
RULES = FOLDER / "rules" / "mergenode.rules.yaml"
RULE_TESTS = FOLDER / "rules" / "mergenode.rules.test.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("dashboards/*.json"))}
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
RECORDED = {rule["record"]: rule["expr"] for group in GROUPS for rule in group["rules"] if "record" in rule}
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule}
METRIC = re.compile(r"\b(?:mergenode|process)_[a-z0-9_]+")
SUFFIXES = ("_bucket", "_count", "_sum")


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    """Metric -> type and labels, by docs/metrics.md, which other tests keep equal to what nodes export."""
    rows = re.findall(
        r"^\| `((?:mergenode|process)_\w+)` \| (\w+) \| \w* ?\| ([\w, ]*?) ?\|",
        (ROOT / "docs" / "metrics.md").read_text(),
        re.MULTILINE,
    )
    return {
        name: (kind, frozenset(labels.replace(" ", "").split(",")) - {""}) for name, kind, labels in rows
    }  # fmt: skip


def family(name: str, known: Mapping[str, object]) -> str:
    """The metric of a series: histograms have three more names."""
    stem = next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)
    return stem if stem in known and name not in known else name


def panels(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All but the headings of rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, dict[str, Any], str]]:
    """Dashboard, panel and expression of every query."""
    for name, dashboard in DASHBOARDS.items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                yield name, panel, target["expr"]


def commands(runbook: str) -> list[str]:
    """Every command that a runbook names, in blocks and in sentences."""
    blocks = re.findall(r"^    (mergenode .+)$", runbook, re.MULTILINE)
    spans = re.findall(r"`(mergenode [^`]+)`", runbook)
    return [re.sub(r"\s+", " ", command) for command in [*blocks, *spans]]
