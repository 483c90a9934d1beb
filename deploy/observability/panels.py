"""Panels and dashboards as Grafana's JSON model, with what every one of ours has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA = 39
"""Version of Grafana's dashboard model: Grafana 10.4 and newer read it."""

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24


@dataclass(frozen=True)
class Panel:
    """``queries``: expression -> legend. ``empty``: when it rightly shows nothing; empty text: it always has data."""

    title: str
    description: str
    unit: str
    queries: Mapping[str, str]
    empty: str = ""
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    thresholds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Board:
    """A dashboard: rows of panels."""

    uid: str
    title: str
    description: str
    rows: Mapping[str, Sequence[Panel]]

    def panels(self) -> Sequence[Panel]:
        """All of them, in order."""
        return [panel for panels in self.rows.values() for panel in panels]


def of(name: str, more: str = "") -> str:
    """The metric of the nodes that are chosen on the dashboard, ``more``: further matchers."""
    return f'{name}{{job=~"$job", instance=~"$instance"{", " + more if more else ""}}}'


def rate(name: str, more: str = "") -> str:
    """Of a counter, per second."""
    return f"rate({of(name, more)}[$__rate_interval])"


def quantile(share: float, name: str, by: str = "job, instance") -> str:
    """Of a histogram."""
    return f"histogram_quantile({share}, sum by ({by}, le) ({rate(name + '_bucket')}))"


def model(board: Board, others: Sequence[Board]) -> dict[str, Any]:
    """The dashboard as Grafana provisions it: no inputs, read-only, linked with the ``others``."""
    links = [
        {
            "title": other.title, "type": "link", "url": f"/d/{other.uid}", "icon": "dashboard", "tooltip": "",
            "tags": [], "asDropdown": False, "includeVars": True, "keepTime": True, "targetBlank": False,
        }
        for other in others
        if other.uid != board.uid
    ]  # fmt: skip
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": ["mergenode"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "utc",
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "links": links,
        "templating": {"list": _variables()},
        "annotations": {"list": [_versions()]},
        "panels": _laid_out(board),
    }


def _variables() -> list[dict[str, Any]]:
    source = {
        "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {},
        "hide": 0, "includeAll": False, "multi": False, "regex": "", "refresh": 1, "options": [],
    }  # fmt: skip
    return [
        source,
        _variable("job", "Job", "label_values(mergenode_build_info, job)"),
        _variable("instance", "Node", 'label_values(mergenode_build_info{job=~"$job"}, instance)'),
    ]


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name, "label": label, "type": "query", "datasource": SOURCE, "definition": query,
        "query": {"query": query, "refId": name}, "current": {}, "options": [], "hide": 0, "includeAll": True,
        "allValue": ".+", "multi": True, "refresh": 2, "regex": "", "sort": 1,
    }  # fmt: skip


def _versions() -> dict[str, Any]:
    """A line where a version became visible."""
    return {
        "name": "Versions", "datasource": SOURCE, "enable": True, "hide": False, "iconColor": "blue",
        "expr": f"changes({of('mergenode_version')}[$__interval]) > 0", "titleFormat": "{{instance}}: new version",
        "step": "1m",
    }  # fmt: skip


def _laid_out(board: Board) -> list[dict[str, Any]]:
    """Panels from left to right, row below row."""
    found: list[dict[str, Any]] = []
    top = 0
    for title, panels in board.rows.items():
        place = {"x": 0, "y": top, "w": WIDTH, "h": 1}
        found.append(
            {"id": len(found) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        )
        top, left, tallest = top + 1, 0, 0
        for panel in panels:
            if left + panel.width > WIDTH:
                top, left, tallest = top + tallest, 0, 0
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            found.append(_panel(panel, len(found) + 1, place))
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest
    return found


def _panel(panel: Panel, number: int, place: Mapping[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    steps += [{"color": color, "value": at} for at, color in zip(panel.thresholds, ("orange", "red"), strict=False)]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
        "noValue": panel.empty or "no data",
    }
    if panel.kind == "timeseries":
        defaults["custom"] = {"fillOpacity": 5, "showPoints": "never", "spanNulls": False}
    options: dict[str, Any] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    if panel.kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "value_and_name", "colorMode": "value"}
    if panel.kind == "bargauge":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "orientation": "horizontal", "displayMode": "basic"}
    description = panel.description + (f" Empty {panel.empty}." if panel.empty else "")
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": description,
        "datasource": SOURCE,
        "gridPos": dict(place),
        "targets": [
            {
                "refId": chr(ord("A") + place), "datasource": SOURCE, "expr": expr, "legendFormat": legend,
                "editorMode": "code", "range": True, "instant": False,
            }
            for place, (expr, legend) in enumerate(panel.queries.items())
        ],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
    }  # fmt: skip
