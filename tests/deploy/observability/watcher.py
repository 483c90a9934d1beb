"""Prometheus and Alertmanager as Debian packages them, on loopback, with the shortened rules."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.deploy.observability.shorter import shortened

PROGRAMS = ("prometheus", "prometheus-alertmanager")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], object], what: Callable[[], str] | str, seconds: float = 120.0) -> None:
    """Ask again and again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        threading.Event().wait(0.5)
    raise AssertionError(f"it never came: {what if isinstance(what, str) else what()}")


class Watcher:
    """Targets come and go while it runs. Ends its processes with the stack. Thread-safe."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        root.mkdir(parents=True)
        self._root, self._stack, self._lock = root, stack, threading.Lock()
        self._targets: set[str] = set()
        self._client = stack.enter_context(httpx.Client(timeout=30))
        port, mails = free_port(), free_port()
        (root / "rules.yaml").write_text(yaml.safe_dump(shortened()))
        found_in = [{"files": [str(root / "targets.json")], "refresh_interval": "1s"}]
        config: dict[str, Any] = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "mergenode", "file_sd_configs": found_in}],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{mails}"]}]}]},
        }
        self._write()
        (root / "prometheus.yaml").write_text(yaml.safe_dump(config))
        (root / "alertmanager.yaml").write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
        self._start(
            "prometheus", f"--config.file={root}/prometheus.yaml", f"--storage.tsdb.path={root}/data",
            f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage",
        )  # fmt: skip
        self._start(
            "prometheus-alertmanager", f"--config.file={root}/alertmanager.yaml", f"--storage.path={root}/mails",
            f"--web.listen-address=127.0.0.1:{mails}", "--cluster.listen-address=",
        )  # fmt: skip
        self._prometheus, self._manager = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{mails}"
        until(self._ready, "Prometheus and Alertmanager are ready")

    def watch(self, *targets: str) -> None:
        """host:port of nodes."""
        with self._lock:
            self._targets |= set(targets)
            self._write()

    def forget(self, *targets: str) -> None:
        with self._lock:
            self._targets -= set(targets)
            self._write()

    def query(self, expr: str) -> list[dict[str, Any]]:
        answer = self._get(self._prometheus, "/api/v1/query", query=expr)
        assert answer["status"] == "success", (expr, answer)
        return list(answer["data"]["result"])

    def firing(self, *instances: str) -> dict[str, dict[str, str]]:
        """Alert -> labels and annotations of one that fires, of these nodes (and of none in particular)."""
        alerts = self._get(self._prometheus, "/api/v1/alerts")["data"]["alerts"]
        return {
            each["labels"]["alertname"]: {**each["labels"], **each["annotations"]}
            for each in alerts
            if each["state"] == "firing" and each["labels"].get("instance") in (None, *instances)
        }

    def fired(self, seconds: float, *instances: str) -> dict[str, set[str]]:
        """Alert -> instances, of all that fired at any time within the last ``seconds``."""
        chosen = "|".join(instances)
        found: dict[str, set[str]] = {}
        asked = f'max_over_time(ALERTS{{alertstate="firing",instance=~"({chosen})?"}}[{int(seconds)}s])'
        for each in self.query(asked):
            found.setdefault(each["metric"]["alertname"], set()).add(each["metric"].get("instance", ""))
        return found

    def mailed(self, *instances: str) -> set[str]:
        """Alerts that Alertmanager would tell people of now."""
        answer = self._get(self._manager, "/api/v2/alerts", active="true")
        return {
            each["labels"]["alertname"] for each in answer if each["labels"].get("instance") in (None, *instances)
        }  # fmt: skip

    def _get(self, server: str, path: str, **params: str) -> Any:
        return self._client.get(server + path, params=params).json()

    def _ready(self) -> bool:
        try:
            servers = (self._prometheus, self._manager)
            return all(self._client.get(f"{each}/-/ready").status_code == 200 for each in servers)
        except httpx.TransportError:
            return False

    def _write(self) -> None:
        document: list[Mapping[str, Any]] = [{"targets": sorted(self._targets)}]
        hidden = self._root / ".targets.json"
        hidden.write_text(json.dumps(document))
        hidden.rename(self._root / "targets.json")

    def _start(self, command: str, *options: str) -> None:
        log = self._stack.enter_context((self._root / f"{command}.log").open("w"))
        program = shutil.which(command)
        assert program is not None, f"{command} is not installed"
        process = subprocess.Popen([program, *options], stdout=log, stderr=log, cwd=self._root)
        self._stack.callback(process.wait, 60)
        self._stack.callback(process.terminate)
