"""One pod of the rendered manifests on such a machine, and what a kubelet does to it."""

from __future__ import annotations

import http.client
import itertools
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import yaml

from mergenode.adapters.store.sqlite_ledger import open_reader
from mergenode.ledger.records import Fact
from mergenode.sizes import parse_size
from tests.deploy.pod import inside
from tests.deploy.pod.image import described
from tests.deploy.pod.machine import Cgroup, Machine, Volume, in_namespaces
from tests.support.manifests import Manifest, Release, plain

SIZES = {"state": "64m", "published": "64m", "base": "32m", "registry-inbox": "64m"}
"""Of volumes, in the place of the claims' requests."""

PATIENCE = 120.0
_CLONE_NEWNET = 0x40000000
_NUMBERS = itertools.count()
_SHIM = ("sh", "-c", '"$@" & wait $!', "sh")
"""Its child is the first of the new namespace of processes; it ends with its exit code, 137 after a SIGKILL."""


class Pod:
    """A StatefulSet's first pod. Its volumes outlive its containers; what they are called is what the manifest says."""

    def __init__(
        self, machine: Machine, *, release: Release | None = None, settings: Callable[[Manifest], None] | None = None,
        sizes: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.machine = machine
        self.release = plain() if release is None else release
        self.image = described()
        security = self.release.pod["securityContext"]
        self.user, self.group, self.fs_group = security["runAsUser"], security["runAsGroup"], security["fsGroup"]
        assert (self.user, self.group) == self.image.user
        self.name = f"{self.release.stateful_set['metadata']['name']}-0"
        self.grace = float(self.release.pod["terminationGracePeriodSeconds"])
        self.volumes: dict[str, Volume] = {}
        self.limit = size_of(self.release.container["resources"]["limits"]["memory"])
        self._swaps = 0
        self._make_volumes(SIZES | (sizes or {}))
        self._config = machine.folder("config")
        self.configure(settings)

    def _make_volumes(self, sizes: dict[str, str]) -> None:
        claims = [each["metadata"]["name"] for each in self.release.stateful_set["spec"]["volumeClaimTemplates"]]
        for volume in self.release.pod["volumes"]:
            if "persistentVolumeClaim" in volume:
                claims.append(volume["name"])
            elif "emptyDir" in volume:
                size = str(size_of(volume["emptyDir"]["sizeLimit"]))
                name = volume["name"]
                self.volumes[name] = self.machine.volume(name, size=size, group=self.fs_group, mode="2777")
            else:
                assert set(volume) == {"name", "configMap"}, volume
        for name in claims:
            self.volumes[name] = self.machine.volume(name, size=sizes[name], group=self.fs_group)

    # ---- its settings, as Kubernetes mounts them

    def configure(self, change: Callable[[Manifest], None] | None = None) -> None:
        """Another content of the ConfigMap: written aside, then ``..data`` is swapped in one step."""
        document = yaml.safe_load(self.release.node_yaml)
        if change is not None:
            change(document)
        self.mount_config(yaml.safe_dump(document))

    def mount_config(self, text: str) -> None:
        here = self.machine.seen(self._config)
        self._swaps += 1
        folder = here / f"..2026_11_30_{self._swaps:06d}"
        folder.mkdir()
        (folder / "node.yaml").write_text(text, encoding="utf-8")
        (here / "..data_tmp").symlink_to(folder.name)
        before = (here / "..data").readlink() if (here / "..data").is_symlink() else None
        (here / "..data_tmp").rename(here / "..data")
        if before is None:
            (here / "node.yaml").symlink_to("..data/node.yaml")
        else:
            (here / before / "node.yaml").unlink()
            (here / before).rmdir()

    # ---- containers

    def environment(self) -> dict[str, str]:
        """Of the container: the image's, then the manifest's, with what the cluster fills in."""
        requested = self.release.container["resources"]["requests"]["cpu"]
        fields = {"metadata.name": self.name, "metadata.namespace": "models"}
        found = dict(self.image.environment)
        for each in self.release.container["env"]:
            source = each.get("valueFrom", {})
            if "fieldRef" in source:
                found[each["name"]] = fields[source["fieldRef"]["fieldPath"]]
            elif "resourceFieldRef" in source:
                assert source["resourceFieldRef"]["resource"] == "requests.cpu"
                found[each["name"]] = str(math.ceil(float(requested)))
            else:
                value = each["value"]
                for name, known in found.items():
                    value = value.replace(f"$({name})", known)
                found[each["name"]] = value
        return found

    def start(self, *args: str) -> Container:
        """A container of the pod: the next one when there was one before. ``args``: others than the manifest's."""
        number = next(_NUMBERS)
        cgroup = Cgroup(f"mergenode-pod-{os.getpid()}-{number}", self.limit)
        root = self.machine.folder(f"root-{number}")
        mounts: list[inside.Mount] = []
        for mount in self.release.container["volumeMounts"]:
            source = self._config if mount["name"] == "config" else self.volumes[mount["name"]].path
            mounts.append(
                {"source": str(source), "target": mount["mountPath"], "read_only": mount.get("readOnly", False)}
            )
        plan: inside.Plan = {
            "root": str(root),
            "image": list(self.image.paths),
            "mounts": mounts,
            "cgroup": str(cgroup.path),
            "cgroup_target": cgroup.target,
            "hostname": self.name,
            "user": self.user,
            "group": self.group,
            "supplementary": [self.fs_group],
            "directory": self.image.directory,
            "command": [*self.image.entrypoint, *(args or self.release.container["args"])],
            "environment": self.environment(),
        }
        return Container(self, plan, cgroup)

    @property
    def state(self) -> Path:
        """The state directory of the node, for this process."""
        return self.volumes["state"].seen / "node"

    @property
    def versions(self) -> Path:
        return self.volumes["published"].seen / "versions"

    @property
    def inbox(self) -> Path:
        return self.volumes["registry-inbox"].seen

    @property
    def base(self) -> Path:
        return self.volumes["base"].seen

    def facts(self, *kinds: str) -> list[Fact]:
        if not (self.state / "ledger.sqlite").exists():
            return []

        def read() -> list[Fact]:
            with closing(open_reader(self.volumes["state"].path / "node/ledger.sqlite")) as reader:
                return [fact for _, fact in reader.facts(kinds=kinds)]

        return self.machine.inside(read)

    def published(self) -> dict[str, bytes]:
        """Every published file by its place."""
        return {
            str(path.relative_to(self.versions)): path.read_bytes()
            for path in sorted(self.versions.rglob("*"))
            if path.is_file() and not path.is_symlink() and "latest" not in path.parts
        }


class Container:
    """A running one: its process 1 is the node. Its output is read all the time."""

    def __init__(self, pod: Pod, plan: inside.Plan, cgroup: Cgroup) -> None:
        self.pod = pod
        self.cgroup = cgroup
        namespaces = ["--mount", "--propagation", "slave", "--pid", "--ipc", "--uts", "--net"]
        made = [sys.executable, "-I", inside.__file__, json.dumps(plan)]
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", *pod.machine.command("unshare", *namespaces, *_SHIM, *made)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._seen = 0
        self._ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._first: int | None = None

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()  # process 1 dies with it, and all others with that
        self._process.wait()
        self._reader.join(60)
        assert self._process.stdout is not None
        self._process.stdout.close()
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
        self._reader.join(60)
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
        with self._changed:
            assert self._changed.wait_for(lambda: self._found(text) or self._ended, PATIENCE), self._told(text)
            if not self._found(text):
                raise AssertionError(self._told(text))
            self._seen += 1
            line = self.lines[self._seen - 1]
        return dict(json.loads(line)) if line.startswith("{") else {"message": line}

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _found(self, text: str) -> bool:
        while self._seen < len(self.lines) and text not in self.lines[self._seen]:
            self._seen += 1
        return self._seen < len(self.lines)

    def _told(self, text: str) -> str:
        return f"no {text!r} in:\n{self.output}"

    def _patiently(self, what: str) -> Iterator[None]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            yield
            threading.Event().wait(0.05)
        raise AssertionError(f"not {what}, exit code {self._process.poll()}:\n{self.output}")


def size_of(quantity: str) -> int:
    """Bytes of a quantity of Kubernetes with a binary suffix."""
    return parse_size(f"{quantity}B")
