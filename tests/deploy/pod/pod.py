"""One pod of the rendered manifests on such a machine, and what a kubelet does to it."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import yaml

from mergenode.adapters.store.sqlite_ledger import open_reader
from mergenode.ledger.records import Fact
from mergenode.sizes import parse_size
from tests.deploy.pod import inside
from tests.deploy.pod.container import Container
from tests.deploy.pod.image import described
from tests.deploy.pod.machine import Cgroup, Machine, Volume
from tests.support.manifests import Manifest, Release, plain

SIZES = {"state": "64m", "published": "64m", "base": "32m", "registry-inbox": "64m"}
"""Of volumes, in the place of the claims' requests."""

_NUMBERS = itertools.count()


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


def size_of(quantity: str) -> int:
    """Bytes of a quantity of Kubernetes with a binary suffix."""
    return parse_size(f"{quantity}B")
