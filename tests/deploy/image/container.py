"""The image as a container on this machine: namespaces, a read-only root, its user, its program as process 1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.deploy.image.inside import Plan
from tests.support.real_node import Process

INSIDE = Path(__file__).with_name("inside.py")
_NEW = ["--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--propagation", "private"]
_GET = """
import json, sys, urllib.error, urllib.request
try:
    with urllib.request.urlopen(sys.argv[1], timeout=20) as answer:
        print(json.dumps([answer.status, answer.read().decode()]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, error.read().decode()]))
except OSError as error:
    print(json.dumps([0, str(error)]))
"""


def plan(
    config: Mapping[str, Any], root: Path, *, volumes: Mapping[str, str], binds: Mapping[str, Path],
    environment: Mapping[str, str], command: Sequence[str] | None = None,
) -> Plan:  # fmt: skip
    """What the image says of its containers, and what their composition adds."""
    user, group = config["User"].split(":")
    variables = dict(each.partition("=")[::2] for each in config["Env"])
    return Plan(
        root=str(root),
        volumes=dict(volumes),
        binds={place: str(path) for place, path in binds.items()},
        user=int(user),
        group=int(group),
        directory=config["WorkingDir"],
        command=list(command or [*config["Entrypoint"], *config["Cmd"]]),
        environment={**variables, **environment},
    )


class Container(Process):
    """One of them, ended with the block. ``beside``: another one whose network it shares; else it has its own."""

    def __init__(self, made: Plan, *, beside: Container | None = None) -> None:
        network = ["--net"] if beside is None else []
        joined = [] if beside is None else beside._enter("--net")
        super().__init__(json.dumps(made), program=[*joined, "unshare", *_NEW, *network, sys.executable, str(INSIDE)])
        self._plan = made

    @property
    def pid(self) -> int:
        """Of its process 1, as this machine counts."""
        (child,) = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(child)

    def seen(self, place: str) -> Path:
        """A path of the container, for this process."""
        return Path(f"/proc/{self.pid}/root{place}")

    def status(self) -> dict[str, str]:
        """What the kernel says of process 1."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def signal(self, number: int) -> int:
        """Send it to process 1; returns the exit code."""
        os.kill(self.pid, number)
        return self.join()

    def get(self, url: str) -> tuple[int, str]:
        """Status and body, or 0 and the reason why there is none."""
        done = subprocess.run(
            [*self._enter("--net"), sys.executable, "-c", _GET, url], capture_output=True, text=True, check=True
        )
        status, body = json.loads(done.stdout)
        return status, body

    def nearby(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """A program of this machine in the network of the container."""
        return subprocess.run(
            [*self._enter("--net"), *map(str, command)], check=False, capture_output=True, text=True, timeout=240
        )

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """``docker exec``: another process in the container, of its user."""
        user, group = self._plan["user"], self._plan["group"]
        entered = self._enter("--mount", "--pid", "--net", "--ipc", "--root", f"--setuid={user}", f"--setgid={group}")
        return subprocess.run(
            [*entered, *command],
            env=self._plan["environment"],
            check=False,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def until_true(self, condition: Callable[[], bool], what: str) -> None:
        """Ask again and again, while it runs."""
        asked = threading.Event()
        for _ in range(1200):
            if condition():
                return
            assert self.process.poll() is None, f"ended before {what}:\n{''.join(self.lines)}"
            asked.wait(0.2)
        raise AssertionError(f"never {what}:\n{''.join(self.lines)}")

    def _enter(self, *namespaces: str) -> list[str]:
        return ["nsenter", f"--target={self.pid}", *namespaces, "--"]
