"""Dashboards, rules and runbooks agree with what nodes export, with each other, and with what is asked of them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.observability import (
    ALERTS,
    DASHBOARDS,
    FOLDER,
    GROUPS,
    METRIC,
    RECORDED,
    ROOT,
    RULE_TESTS,
    RULES,
    RUNBOOKS,
    commands,
    documented,
    family,
    panels,
    queries,
)

HELP = (ROOT / "tests" / "golden" / "help.txt").read_text()
KNOWN = documented()
EXPRESSIONS = {
    **{f"{name}: {panel['title']}: {expr}": expr for name, panel, expr in queries()},
    **RECORDED,
    **{name: rule["expr"] for name, rule in ALERTS.items()},
}
UNITS = {"short", "s", "bytes", "Bps", "cps", "percentunit"}
GENERAL_LABELS = {"job", "instance", "le", "version", "__name__"}
promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: package prometheus)"
)
each_dashboard = pytest.mark.parametrize("board", DASHBOARDS.values(), ids=list(DASHBOARDS))
each_alert = pytest.mark.parametrize("rule", ALERTS.values(), ids=list(ALERTS))
each_expression = pytest.mark.parametrize("expr", EXPRESSIONS.values(), ids=list(EXPRESSIONS))


def grafana_free(expr: str) -> str:
    """As Prometheus sees it once Grafana has filled in what only Grafana knows."""
    return expr.replace("$__rate_interval", "5m").replace("$__interval", "1m").replace("$job", ".*").replace(
        "$instance", ".*"
    )  # fmt: skip


def test_what_is_committed_is_what_the_tables_say(tmp_path: Path) -> None:
    script = FOLDER / "build.py"
    done = subprocess.run(
        [sys.executable, "-I", script, "--output", tmp_path], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    written = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.*") if path.is_file()}
    assert {"dashboards", "rules"} == {path.parts[0] for path in written}
    committed = {
        path.relative_to(FOLDER): path.read_text() for path in sorted([*FOLDER.glob("dashboards/*.json"), RULES])
    }
    committed[RULE_TESTS.relative_to(FOLDER)] = RULE_TESTS.read_text()
    assert written == committed, "run `python deploy/observability/build.py`"


def test_the_chart_installs_the_same() -> None:
    chart = FOLDER.parent / "helm" / "mergenode" / "files"
    copies = {path.relative_to(chart): path.read_text() for path in chart.rglob("*.*") if path.suffix != ".py"}
    there = {path.relative_to(FOLDER): path.read_text() for path in (*FOLDER.glob("dashboards/*.json"), RULES)}
    assert copies == there, "run `python deploy/observability/build.py`"


def test_a_site_has_its_own_job_and_runbooks(tmp_path: Path) -> None:
    options = ["--job", 'job="merge"', "--runbooks", "https://wiki.example.org/runbooks"]
    subprocess.run(
        [sys.executable, FOLDER / "build.py", "--output", tmp_path, *options], check=True, capture_output=True
    )
    text = (tmp_path / "rules" / RULES.name).read_text()
    rules = {rule.get("alert"): rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]}
    assert rules["MergenodeDown"]["expr"] == 'up{job="merge"} == 0'
    assert rules["MergenodeDown"]["annotations"]["runbook_url"] == "https://wiki.example.org/runbooks/MergenodeDown.md"
    assert ".*mergenode" not in text


@each_expression
def test_every_metric_exists_and_has_the_labels_that_are_asked_for(expr: str) -> None:
    names = {family(name, KNOWN) for name in METRIC.findall(expr)}
    assert names <= set(KNOWN), "not in docs/metrics.md"
    assert set(re.findall(r"mergenode:[a-z0-9_:]+", expr)) <= set(RECORDED)
    for name, matchers in re.findall(r"([a-z_]+)\{([^}]*)\}", expr):
        asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        if name != "up":
            assert asked <= KNOWN[family(name, KNOWN)][1] | GENERAL_LABELS, name
    aggregated = {label.strip() for labels in re.findall(r"\bby \(([^)]*)\)", expr) for label in labels.split(",")}
    assert aggregated <= frozenset().union(*(KNOWN[name][1] for name in names)) | GENERAL_LABELS


@each_expression
def test_counters_are_asked_for_their_growth(expr: str) -> None:
    """A counter by itself says how long a process runs. ``grew`` and ``offset`` ask whether one appeared."""
    for match in METRIC.finditer(expr):
        name = family(match[0], KNOWN)
        if KNOWN[name][0] == "gauge":
            continue
        before, after = expr[: match.start()], expr[match.end() :]
        compared = "unless" in expr or re.match(r"(\{[^}]*\})? offset", after)
        assert re.search(r"\b(rate|increase|changes)\((sum by \([\w, ]+\) \()?$", before) or compared, match[0]


def test_closed_labels_have_the_values_that_rules_ask_for() -> None:
    """A renamed reason or outcome would silence an alert without a word."""
    golden = (ROOT / "tests/adapters/observers/golden_exposition.txt").read_text()
    for expr in EXPRESSIONS.values():
        for label, operator, value in re.findall(r'(reason|outcome|choice)(=~|!~|=|!=)"([^"]*)"', expr):
            for each in value.split("|"):
                assert f'{label}="{each}"' in golden, (label, operator, each)


@each_alert
def test_an_alert_says_what_is_wrong_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"Mergenode([A-Z][a-z]+)+", rule["alert"])
    assert set(rule["labels"]) == {"severity"} and rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert re.fullmatch(r"\d+[mhd]", rule["for"])
    told = rule["annotations"]
    assert set(told) == {"summary", "description", "runbook_url"} and all(told.values())
    assert told["runbook_url"] == f"docs/runbooks/{rule['alert']}.md" and (ROOT / told["runbook_url"]).is_file()
    if "absent(" not in rule["expr"]:
        assert "$labels.instance" in told["summary"]
    assert told["description"].endswith((".", "}} {{ end }}", "{{ end }}")), told["description"]


def test_every_alert_and_every_group_is_there_once() -> None:
    names = [rule["alert"] for group in GROUPS for rule in group["rules"] if "alert" in rule]
    assert len(names) == len(set(names)) == len(ALERTS)
    assert len({group["name"] for group in GROUPS}) == len(GROUPS)
    cases = [case["name"] for case in yaml.safe_load(RULE_TESTS.read_text())["tests"]]
    assert {f"{name} {what}" for name in names for what in ("fires", "is quiet")} <= set(cases)


def test_every_runbook_belongs_to_an_alert_and_has_the_four_parts() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(ALERTS)
    for path in RUNBOOKS.glob("*.md"):
        text = path.read_text()
        assert text.startswith(f"# {path.stem}\n")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Meaning", "Impact", "Diagnosis", "Mitigation"]
        severity = ALERTS[path.stem]["labels"]["severity"]
        assert f"Severity {severity}" in text
        diagnosis = text.partition("## Diagnosis")[2].partition("## Mitigation")[0]
        assert commands(diagnosis), "what to type"


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_commands_of_runbooks_exist_with_their_options(name: str) -> None:
    for command in commands((RUNBOOKS / f"{name}.md").read_text()):
        words = shlex.split(command)
        depth = 3 if f"$ {' '.join(words[:3])} --help" in HELP else 2
        head = f"$ {' '.join(words[:depth])} --help\n"
        assert head in HELP, command
        page = HELP.partition(head)[2].partition("\n$ ")[0]
        for option in [word for word in words[depth:] if word.startswith("-")]:
            assert re.search(rf"(^| ){re.escape(option)}\b", page, re.MULTILINE), (command, option)


def test_settings_that_runbooks_name_exist() -> None:
    known = set((ROOT / "tests" / "golden" / "settings.txt").read_text().split())
    groups = {group["name"] for group in GROUPS}
    for path in RUNBOOKS.glob("*.md"):
        named = set(re.findall(r"`([a-z]+\.[a-z_.]+)`", path.read_text())) - groups
        assert {name for name in named if not name.startswith("method.")} <= known, path.name


def test_the_document_lists_every_alert_and_every_dashboard() -> None:
    text = (ROOT / "docs" / "observability.md").read_text()
    rows = dict(re.findall(r"^\| \[(\w+)\]\(runbooks/\1\.md\) \| (\w+) \|", text, re.MULTILINE))
    assert rows == {name: rule["labels"]["severity"] for name, rule in ALERTS.items()}
    assert set(re.findall(r"^\| [\w ]+ \| `([\w-]+)` \|", text, re.MULTILINE)) == set(DASHBOARDS)


@each_dashboard
def test_a_dashboard_can_be_provisioned(board: dict[str, Any]) -> None:
    assert "__inputs" not in board and "__requires" not in board and "id" not in board
    assert board["editable"] is False and board["description"] and board["tags"] == ["mergenode"]
    variables = {each["name"]: each for each in board["templating"]["list"]}
    assert list(variables) == ["datasource", "job", "instance"]
    assert variables["datasource"]["type"] == "datasource" and variables["datasource"]["query"] == "prometheus"
    for name in ("job", "instance"):
        assert variables[name]["multi"] and variables[name]["includeAll"] and variables[name]["allValue"] == ".+"
        assert variables[name]["datasource"]["uid"] == "${datasource}"
    assert {link["url"] for link in board["links"]} == {f"/d/{uid}" for uid in DASHBOARDS} - {f"/d/{board['uid']}"}


@each_dashboard
def test_every_panel_is_described_has_a_unit_and_uses_the_variables(board: dict[str, Any]) -> None:
    titles = [panel["title"] for panel in panels(board)]
    assert len(titles) == len(set(titles))
    for panel in panels(board):
        assert panel["title"] and panel["description"].endswith("."), panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["type"] in {"timeseries", "stat", "bargauge"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
        for target in panel["targets"]:
            assert target["legendFormat"] and target["datasource"] == panel["datasource"]
            selectors = re.findall(r"\{[^}]*\}", target["expr"])
            assert selectors and all('job=~"$job", instance=~"$instance"' in each for each in selectors)
            assert len(selectors) == len(re.findall(r"\b(?:(?:mergenode|process)_[a-z0-9_]+|up)\b", target["expr"]))
            assert set(re.findall(r"rate\([^\[]*\[([^\]]*)\]", target["expr"])) <= {"$__rate_interval"}


@each_dashboard
def test_panels_lie_side_by_side(board: dict[str, Any]) -> None:
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }  # fmt: skip
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells


def test_every_metric_of_the_node_is_on_a_dashboard() -> None:
    shown = {family(name, KNOWN) for _, _, expr in queries() for name in METRIC.findall(expr)}
    assert set(KNOWN) - shown == set()


@promtool
def test_prometheus_takes_rules_and_queries(tmp_path: Path) -> None:
    rules = [{"record": "q:q", "expr": grafana_free(expr), "labels": {"n": str(n)}} for n, (_, _, expr) in
             enumerate(queries())]  # fmt: skip
    asked = tmp_path / "queries.yaml"
    asked.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", RULES, asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_every_alert_fires_for_its_fault_and_for_no_other() -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", RULE_TESTS.name],
        cwd=RULE_TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
