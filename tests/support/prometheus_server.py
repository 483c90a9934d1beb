"""Prometheus and Alertmanager as Debian packages them, on loopback, with rules whose hours are minutes."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import yaml

FASTER = 60
"""So many times shorter are all windows and waits."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LIMITS = {"> 900": "> 15", "> 600": "> 10", "86400)": "1440)"}
"""Numbers of seconds in expressions."""


def shortened(rules: Mapping[str, Any]) -> dict[str, Any]:
    """The same rules for impatient people."""
    groups = []
    for group in rules["groups"]:
        changed = []
        for rule in group["rules"]:
            expr = re.sub(r"\[(\w+)\]", lambda found: f"[{_short(found[1])}]", rule["expr"])
            expr = re.sub(r"offset (\w+)", lambda found: f"offset {_short(found[1])}", expr)
            for limit, less in _LIMITS.items():
                expr = expr.replace(limit, less)
            changed.append({**rule, "expr": expr, **({"for": _short(rule["for"])} if "for" in rule else {})})
        groups.append({"name": group["name"], "interval": "1s", "rules": changed})
    return {"groups": groups}


def _short(duration: str) -> str:
    seconds = int(duration[:-1]) * _SECONDS[duration[-1]]
    return f"{max(2, seconds // FASTER) if seconds else 0}s"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Watcher:
    """``targets``: host:port of nodes. Ends its processes with the stack."""

    def __init__(self, root: Path, rules: Mapping[str, Any], targets: list[str], stack: ExitStack) -> None:
        root.mkdir(parents=True)
        self._root, self._stack = root, stack
        port, mails = free_port(), free_port()
        manager = shutil.which("prometheus-alertmanager")
        (root / "rules.yaml").write_text(yaml.safe_dump(shortened(rules)))
        config: dict[str, Any] = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "mergenode", "static_configs": [{"targets": targets}]}],
        }
        if manager is not None:
            config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{mails}"]}]}]}
        (root / "prometheus.yaml").write_text(yaml.safe_dump(config))
        (root / "alertmanager.yaml").write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
        self.client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30))
        self.manager: httpx.Client | None = None
        self._start(
            "prometheus", f"--config.file={root}/prometheus.yaml", f"--storage.tsdb.path={root}/data",
            f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage",
        )  # fmt: skip
        if manager is not None:
            self._start(
                manager, f"--config.file={root}/alertmanager.yaml", f"--storage.path={root}/mails",
                f"--web.listen-address=127.0.0.1:{mails}", "--cluster.listen-address=",
            )  # fmt: skip
            self.manager = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{mails}", timeout=30))
        until(self._ready, "Prometheus is ready")

    def query(self, expr: str) -> list[dict[str, Any]]:
        answer = self.client.get("/api/v1/query", params={"query": expr}).json()
        assert answer["status"] == "success", (expr, answer)
        return list(answer["data"]["result"])

    def firing(self) -> dict[str, dict[str, str]]:
        """Alert -> labels and annotations, of one that fires."""
        alerts = self.client.get("/api/v1/alerts").json()["data"]["alerts"]
        return {
            each["labels"]["alertname"]: {**each["labels"], **each["annotations"]}
            for each in alerts
            if each["state"] == "firing"
        }

    def mailed(self) -> dict[str, dict[str, str]] | None:
        """Alert -> annotations, as Alertmanager would send them on; None where there is none."""
        if self.manager is None:
            return None
        return {each["labels"]["alertname"]: each["annotations"] for each in self.manager.get("/api/v2/alerts").json()}

    def _ready(self) -> bool:
        try:
            ready = self.client.get("/-/ready").status_code == 200
            return ready and (self.manager is None or self.manager.get("/-/ready").status_code == 200)
        except httpx.TransportError:
            return False

    def _start(self, *command: str) -> None:
        log = self._stack.enter_context((self._root / f"{Path(command[0]).name}.log").open("w"))
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._root)
        self._stack.callback(process.wait, 60)
        self._stack.callback(process.terminate)


def until(condition: Callable[[], object], what: str, seconds: float = 180.0) -> None:
    """Ask again and again."""
    for _ in range(int(seconds / 0.5)):
        if condition():
            return
        threading.Event().wait(0.5)
    raise AssertionError(f"it never came: {what}")
