"""Kubernetes manifests of this repository as data: the plain ones, and what the chart makes of its example values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mergenode.settings import load_settings
from mergenode.settings.tree import Settings

ROOT = Path(__file__).parents[2]
BASE = ROOT / "deploy/kustomize/base"
GOLDEN = ROOT / "tests/golden/chart"

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Release:
    """All that one installation consists of."""

    name: str
    manifests: tuple[Manifest, ...]
    node_yaml: str

    def every(self, kind: str) -> list[Manifest]:
        return [each for each in self.manifests if each["kind"] == kind]

    def one(self, kind: str) -> Manifest:
        (found,) = self.every(kind)
        return found

    @property
    def stateful_set(self) -> Manifest:
        return self.one("StatefulSet")

    @property
    def labels(self) -> Mapping[str, str]:
        """Of the pods."""
        return self.stateful_set["spec"]["template"]["metadata"]["labels"]

    @property
    def pod(self) -> Manifest:
        return self.stateful_set["spec"]["template"]["spec"]

    @property
    def container(self) -> Manifest:
        (found,) = self.pod["containers"]
        return found

    @property
    def ports(self) -> dict[str, int]:
        return {each["name"]: each["containerPort"] for each in self.container["ports"]}

    def pods(self) -> Iterator[Manifest]:
        """Specifications of every pod: the nodes', and that of `helm test`."""
        yield self.pod
        yield from (each["spec"] for each in self.every("Pod"))

    def environment(self) -> dict[str, str]:
        """The variables of the first pod; where the cluster fills in, a plausible value."""
        filled = {
            "POD_NAME": f"{self.stateful_set['metadata']['name']}-0",
            "POD_NAMESPACE": "models",
            "CPU_REQUEST": "4",
        }
        return {
            each["name"]: filled[each["name"]] if "valueFrom" in each else each["value"]
            for each in self.container["env"]
        }

    def settings(self, directory: Path) -> Settings:
        """What a node makes of node.yaml in the pod."""
        path = directory / "node.yaml"
        path.write_text(self.node_yaml, encoding="utf-8")
        return load_settings(path, self.environment())


def plain() -> Release:
    """deploy/kustomize/base."""
    files = yaml.safe_load((BASE / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    manifests = tuple(yaml.safe_load((BASE / name).read_text(encoding="utf-8")) for name in files)
    return Release("plain", manifests, (BASE / "node.yaml").read_text(encoding="utf-8"))


def golden(path: Path) -> Release:
    """One file below tests/golden/chart."""
    manifests = tuple(each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each)
    (node_yaml,) = [each["data"]["node.yaml"] for each in manifests if "node.yaml" in each.get("data", {})]
    return Release(path.stem, manifests, node_yaml)


def releases() -> list[Release]:
    return [plain(), *map(golden, sorted(GOLDEN.glob("*.yaml")))]
