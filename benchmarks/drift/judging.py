"""What Prometheus makes of a story: the real rules over the scraped series, evaluated by ``promtool test rules``.

A fold takes two moments of an hour each: in the first its version is held, in the second it is there.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.drift.running import Step
from mergenode.errors import FatalError

RULES = Path(__file__).parents[2] / "deploy" / "observability" / "rules" / "mergenode.rules.yaml"
NODE = 'instance="node",job="mergenode"'
MINUTES_PER_MOMENT, SCRAPE_MINUTES = 60, 5
LOOKS_AFTER = 30
"""Minutes into a moment at which it is asked what fires."""

UNDER_TEST = ("mergenode.drift",)
"""Groups of rules whose alerts count. The node has no plug-in here, so ``MergenodeScoreFell`` is silent."""

_SCRAPES = MINUTES_PER_MOMENT // SCRAPE_MINUTES


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alert that fires at ``moment``, as people get it."""

    moment: int
    alert: str
    labels: Mapping[str, str]
    summary: str
    description: str

    @property
    def step(self) -> int:
        return self.moment // 2


def held(step: int) -> int:
    """The moment at which this fold shows and no version holds it."""
    return 2 * step


def published(step: int) -> int:
    """The moment at which the version of this fold is there: the first at which a score can tell."""
    return 2 * step + 1


def firing(steps: Sequence[Step]) -> list[list[str]]:
    """Names of the drift alerts that fire at every moment. Raises FatalError: promtool does not understand."""
    tests = [
        {"expr": 'ALERTS{alertstate="firing"}', "eval_time": _minutes(moment), "exp_samples": []}
        for moment in range(2 * len(steps))
    ]
    found: list[list[str]] = [[] for _ in tests]
    for time, got in _failures(steps, {"promql_expr_test": tests}):
        names = set(re.findall(r'alertname="(\w+)"', got))
        found[time] = sorted(names & _alerts())
    return found


def alarms(steps: Sequence[Step], wanted: Sequence[tuple[int, str]]) -> list[Alarm]:
    """Those alerts at those moments, with their annotations."""
    tests = [{"alertname": alert, "eval_time": _minutes(moment), "exp_alerts": []} for moment, alert in wanted]
    found = []
    for moment, got in _failures(steps, {"alert_rule_test": tests}):
        alert = re.search(r'alertname="(\w+)"', got)
        labels = dict(re.findall(r'(\w+)="([^"]*)"', got.partition("Annotations:")[0]))
        summary = re.search(r'summary="((?:[^"\\]|\\.)*)"', got)
        description = re.search(r'description="((?:[^"\\]|\\.)*)"', got)
        if alert and summary and description:
            found.append(Alarm(moment, alert[1], labels, summary[1], description[1]))
    return found


def _alerts() -> set[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {
        rule["alert"] for group in groups if group["name"] in UNDER_TEST for rule in group["rules"] if "alert" in rule
    }


def _failures(steps: Sequence[Step], asked: Mapping[str, Any]) -> list[tuple[int, str]]:
    """What promtool has instead of nothing, by moment."""
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": f"{SCRAPE_MINUTES}m",
        "tests": [{"interval": f"{SCRAPE_MINUTES}m", "input_series": _series(steps), **asked}],
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "story.yaml"
        file.write_text(json.dumps(document))
        ran = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    said = ran.stdout + ran.stderr
    blocks = re.split(r"(?=time: )|(?=alertname: )", said)
    found = []
    for block in blocks:
        time = re.search(r"time: (?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?", block)
        got = block.partition("got:")[2]
        if time and got:
            minutes = 1440 * int(time[1] or 0) + 60 * int(time[2] or 0) + int(time[3] or 0)
            found.append(((minutes - LOOKS_AFTER) // MINUTES_PER_MOMENT, got))
    if not found and "SUCCESS" not in said:
        raise FatalError(f"promtool: {said[:2000]}")
    return found


def _minutes(moment: int) -> str:
    return f"{MINUTES_PER_MOMENT * moment + LOOKS_AFTER}m"


def _series(steps: Sequence[Step]) -> list[dict[str, str]]:
    """Every series of the node, constant within a moment."""
    moments = [samples for step in steps for samples in (step.held, step.series)]
    names = sorted({name for samples in moments for name in samples if name.startswith("mergenode_")})
    found = [{"series": f"up{{{NODE}}}", "values": f"1x{_SCRAPES * len(moments)}"}]
    for name in names:
        if re.search(r"_bucket\{|_seconds|_bytes|_progress", name):
            continue
        stem, _, labels = name.partition("{")
        series = f"{stem}{{{NODE}{',' + labels if labels else '}'}"
        values = " ".join(_repeated(samples.get(name)) for samples in moments)
        found.append({"series": series, "values": values})
    return found


def _repeated(value: float | None) -> str:
    if value is None:
        return f"_x{_SCRAPES}"
    if value != value:
        return " ".join(["NaN"] * _SCRAPES)
    return f"{value!r}x{_SCRAPES - 1}"
