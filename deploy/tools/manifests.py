"""Writes deploy/kustomize/base: the chart with its default values, for those who do not use Helm.

Usage: ``python -m deploy.tools.manifests`` after a change of the chart (needs ``make deploy-tools``). It also writes
tests/golden/chart: what the chart makes of each file in its ci/, so that it can be tested without Helm.

In the base what belongs to Helm is left out: its labels, the test pod, and the checksum of the settings; kustomize
makes the ConfigMap from node.yaml and gives it a name by its content, which restarts the pods as the checksum does.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from deploy.tools.binaries import ROOT, binary

Manifest = dict[str, Any]

CHART = ROOT / "deploy/helm/mergenode"
BASE = ROOT / "deploy/kustomize/base"
RELEASE = "mergenode"
GOLDEN = ROOT / "tests/golden/chart"
VALUES = tuple(sorted((CHART / "ci").glob("*-values.yaml")))
HEAD = "# Made by `python -m deploy.tools.manifests` from the chart; change the chart instead.\n"
HELM_LABELS = ("helm.sh/chart", "app.kubernetes.io/managed-by")
CHECKSUM = "checksum/config"


def golden_name(values: Path) -> str:
    """The file below tests/golden/chart that belongs to a file of values."""
    return values.name.replace("-values", "")


def golden_text(helm: Path, values: Path) -> str:
    """Every manifest of a release with these values."""
    manifests = rendered(helm, "-f", values, "--namespace", "models")
    return HEAD + "".join(f"---\n{_dump(each)}" for each in sorted(manifests, key=_place))


def _place(manifest: Manifest) -> tuple[str, str]:
    # Helm 3 and 4 do not agree on the order of hooks.
    return manifest["kind"], manifest["metadata"]["name"]


def rendered(helm: Path, *options: str | Path) -> list[Manifest]:
    """Every manifest that ``helm template`` writes with these options, the hooks included."""
    command = [helm, "template", RELEASE, CHART, *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def files(manifests: Iterable[Manifest]) -> dict[str, str]:
    """Names and texts of the files of the base."""
    result: dict[str, str] = {}
    resources: list[str] = []
    for manifest in manifests:
        if "helm.sh/hook" in manifest["metadata"].get("annotations", {}):
            continue
        if manifest["kind"] == "ConfigMap":
            result |= {name: HEAD + text for name, text in manifest["data"].items()}
            continue
        name = manifest["kind"].lower()
        if manifest["metadata"]["name"].endswith("-headless"):
            name += "-headless"
        result[f"{name}.yaml"] = HEAD + _dump(_without_helm(manifest))
        resources.append(f"{name}.yaml")
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": sorted(resources),
        "configMapGenerator": [{"name": f"{RELEASE}-config", "files": ["node.yaml"]}],
    }
    return result | {"kustomization.yaml": HEAD + _dump(kustomization)}


def _without_helm(manifest: Manifest) -> Manifest:
    pod = manifest["spec"].get("template", {}) if "spec" in manifest else {}
    for metadata in (manifest["metadata"], pod.get("metadata", {})):
        for label in HELM_LABELS:
            metadata.get("labels", {}).pop(label, None)
        metadata.get("annotations", {}).pop(CHECKSUM, None)
    return manifest


class _Plain(yaml.SafeDumper):
    """Indented lists, as people write them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _dump(value: object) -> str:
    return yaml.dump(value, Dumper=_Plain, sort_keys=False, width=120)


if __name__ == "__main__":
    found = binary("helm4") or binary("helm3")
    if found is None:
        raise SystemExit("no helm: `make deploy-tools` fetches it")
    BASE.mkdir(parents=True, exist_ok=True)
    texts = files(rendered(found))
    for old in BASE.iterdir():
        if old.name not in texts:
            old.unlink()
    for name, text in texts.items():
        (BASE / name).write_text(text, encoding="utf-8")
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for values in VALUES:
        (GOLDEN / golden_name(values)).write_text(golden_text(found, values), encoding="utf-8")
