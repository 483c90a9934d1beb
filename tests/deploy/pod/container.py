"""A running container of a pod: its process 1, its exit code, its probes, its log."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.deploy.pod import inside
from tests.deploy.pod.machine import Cgroup, in_namespaces
from tests.support.output_lines import OutputLines

if TYPE_CHECKING:
    from tests.deploy.pod.pod import Pod

PATIENCE = 240.0
_CLONE_NEWNET = 0x40000000
_SHIM = ("sh", "-c", '"$@" & wait $!', "sh")
"""Its child is the first of the new namespace of processes; it ends with its exit code, 137 after a SIGKILL."""


class Container:
    """A running one: its process 1 is the node. Its output is read all the time."""

    def __init__(self, pod: Pod, plan: inside.Plan, cgroup: Cgroup) -> None:
        self.pod = pod
        self.cgroup = cgroup
        namespaces = ["--mount", "--propagation", "slave", "--pid", "--ipc", "--uts", "--net"]
        # Without site: coverage would start there, and catch a SIGTERM that is meant for the node.
        made = [sys.executable, "-IS", inside.__file__, json.dumps(plan)]
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", *pod.machine.command("unshare", *namespaces, *_SHIM, *made)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._output = OutputLines(self._process.stdout)
        self._first: int | None = None

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()  # process 1 dies with it, and all others with that
        self._process.wait()
        self._output.close()
        for _ in range(200):
            with suppress(OSError):
                self.cgroup.remove()
                return
            threading.Event().wait(0.05)
        raise AssertionError(f"{self.cgroup.path} is not empty")

    @property
    def first(self) -> int:
        """Process 1, by its number outside."""
        if self._first is None:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            for _ in self._patiently("process 1"):
                if found := children.read_text().split():
                    self._first = int(found[0])
                    break
        assert self._first is not None
        return self._first

    def status(self) -> dict[str, str]:
        """What the kernel says of process 1."""
        text = Path(f"/proc/{self.first}/status").read_text()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}

    def send(self, number: int) -> None:
        os.kill(self.first, number)

    def wait(self, patience: float = PATIENCE) -> int:
        """Its exit code, as Kubernetes tells it: 128 and the number of the signal that ended it."""
        code = self._process.wait(patience)
        self._output.join()
        return code

    def kill(self) -> int:
        self.send(signal.SIGKILL)
        return self.wait()

    def stop(self) -> tuple[int, float]:
        """As when a pod is deleted: SIGTERM, and SIGKILL after the grace period. Exit code and seconds that it took."""
        began = time.monotonic()
        self.send(signal.SIGTERM)
        try:
            return self.wait(self.pod.grace), time.monotonic() - began
        except subprocess.TimeoutExpired:
            return self.kill(), time.monotonic() - began

    # ---- probes

    def probe(self, name: str) -> tuple[int, str]:
        """As the manifest asks: ``startupProbe``, ``livenessProbe``, ``readinessProbe``."""
        request = self.pod.release.container[name]["httpGet"]
        return self.get(request["path"], self.pod.release.ports[request["port"]])

    def get(self, path: str, port: int | None = None) -> tuple[int, str]:
        """A request from the pod's own network; status 0 when nobody answers."""
        port = self.pod.release.ports["http"] if port is None else port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.sock = self._socket(port)
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError as error:
            return 0, str(error)
        finally:
            connection.close()

    def _socket(self, port: int) -> socket.socket:
        def connect() -> socket.socket:
            return socket.create_connection(("127.0.0.1", port), 30)

        return in_namespaces(self.first, {"net": _CLONE_NEWNET}, connect)

    def until_it_runs(self) -> None:
        """The node's own code, and nothing heavy yet: process 1 handles SIGTERM."""
        caught = 1 << signal.SIGTERM - 1
        self.until(lambda: int(self.status()["SigCgt"], 16) & caught != 0, "handling SIGTERM")

    def until_ready(self) -> None:
        for _ in self._patiently("ready"):
            if self.probe("readinessProbe")[0] == 200:
                return

    def metrics(self) -> dict[str, float]:
        _, text = self.get("/metrics")
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}

    def until(self, condition: Callable[[], bool], what: str) -> None:
        for _ in self._patiently(what):
            if condition():
                return

    # ---- what it says

    def said(self, text: str) -> dict[str, Any]:
        """Go on in its log to the next line that holds ``text``; waits for it."""
        line = self._output.until(text, PATIENCE)
        return dict(json.loads(line)) if line.startswith("{") else {"message": line}

    @property
    def lines(self) -> list[str]:
        return self._output.lines

    @property
    def output(self) -> str:
        return self._output.text

    def _patiently(self, what: str) -> Iterator[None]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            yield
            threading.Event().wait(0.05)
        raise AssertionError(f"not {what}, exit code {self._process.poll()}:\n{self.output}")
