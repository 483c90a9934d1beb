"""The files that Prometheus and promtool read, from the table of alerts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drift_alerts import DRIFT_ALERTS
from durations import Shorten, same, timed
from exchange_alerts import EXCHANGE_ALERTS
from node_alerts import NODE_ALERTS
from records import RECORDS
from rule_table import INSTANCE, JOB, Alert, Case, of

ALERTS: tuple[Alert, ...] = (*NODE_ALERTS, *DRIFT_ALERTS, *EXCHANGE_ALERTS)
RULES_FILE = "mergenode.rules.yaml"


def rules(job: str = JOB, runbooks: str = "docs/runbooks", shorten: Shorten = same) -> dict[str, Any]:
    """All recording and alert rules.

    ``job``: matcher of the scrape jobs; ``runbooks``: where runbooks are read; ``shorten``: other durations, for those
    who want to see alerts fire without waiting for hours. Nothing else differs then.
    """
    recorded = [{"record": record.record, "expr": timed(record.expr, shorten)} for record in RECORDS]
    groups: list[dict[str, Any]] = [{"name": "mergenode.records", "rules": recorded}]
    for name in dict.fromkeys(alert.group for alert in ALERTS):
        members = [_rule(alert, job, runbooks, shorten) for alert in ALERTS if alert.group == name]
        groups.append({"name": name, "rules": members})
    return {"groups": groups}


def _rule(alert: Alert, job: str, runbooks: str, shorten: Shorten) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": timed(alert.expr, shorten).replace(JOB, job),
        "for": shorten(alert.wait),
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{runbooks}/{alert.name}.md",
        },
    }


def rule_tests() -> dict[str, Any]:
    """For every alert: it fires for its fault and no other alert does, and it is quiet when the fault is not there."""
    cases = [_test(alert, case) for alert in ALERTS for case in (alert.fires, alert.quiet)]
    return {"rule_files": [RULES_FILE], "evaluation_interval": "5m", "tests": [*cases, _told()]}


def _told() -> dict[str, Any]:
    """What people read: the node, the number, the layer groups that stand out, and how the contribution is found."""
    alert = next(each for each in ALERTS if each.name == "MergenodeNewcomerAgainstMerge")
    annotations = {
        "summary": f"the last contribution of {INSTANCE} points against the merge (cosine -0.2)",
        "description": "It undoes part of what is there. Most opposed: layers.0 (-0.5) layers.1 (0.1) ; "
        "`mergenode show --generation 17` names the contribution.",
        "runbook_url": f"docs/runbooks/{alert.name}.md",
    }
    labels = {"severity": alert.severity, "job": "mergenode", "instance": INSTANCE}
    series = {**alert.fires.series, of("mergenode_newest_fold_generation"): "17x20"}
    return {
        "name": "annotations name the layer groups",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {
                "eval_time": alert.fires.at,
                "alertname": alert.name,
                "exp_alerts": [{"exp_labels": labels, "exp_annotations": annotations}],
            }
        ],
    }


def _test(alert: Alert, case: Case) -> dict[str, Any]:
    series = dict(case.series)
    if case.instance:
        series.setdefault(of("up"), "1x3000")
    fires = case.labels is not None
    return {
        "name": f"{alert.name} {'fires' if fires else 'is quiet'}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": 'ALERTS{alertstate="firing"}', "eval_time": case.at, "exp_samples": _samples(alert, case)}
        ],
    }


def _samples(alert: Alert, case: Case) -> Sequence[Mapping[str, Any]]:
    if case.labels is None:
        return []
    labels = {"alertname": alert.name, "alertstate": "firing", "severity": alert.severity, **case.labels}
    if case.instance:
        labels |= {"instance": INSTANCE, "job": "mergenode"}
    inner = ", ".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return [{"labels": f"ALERTS{{{inner}}}", "value": 1}]
