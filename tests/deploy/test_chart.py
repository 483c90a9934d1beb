"""The chart in real Helm 3 and 4, the plain manifests in real kubectl. Skipped without: ``make deploy-tools``."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.tools.binaries import binary
from deploy.tools.manifests import BASE, CHART, GOLDEN, VALUES, files, golden_name, golden_text, rendered
from mergenode.settings.reloading import RELOADED
from tests.support.manifests import ROOT

values = pytest.mark.parametrize("path", VALUES, ids=lambda path: path.stem)


ENTRY = "registries[0].name=inbox,registries[0].claim=mergenode-inbox"
TAKEN_OVER = {
    "registries[].poll_seconds": f"{ENTRY},registries[0].settings.poll_seconds=20",
    "gates": "config.gates.norm.action=observe",
    "publish.keep": "config.publish.keep=3",
    "publish.every": "config.publish.every.contributions=3",
    "publish.hold_seconds": "config.publish.hold_seconds=120",
    "validation.max_relative_norm": "config.validation.max_relative_norm=2",
    "log": "config.log.level=debug",
}
"""Values that change settings which a running node takes over by itself."""


def found(name: str) -> Path:
    path = binary(name)
    if path is None:
        pytest.skip(f"no {name}: `make deploy-tools` fetches it")
    return path


@pytest.fixture(params=["helm3", "helm4"])
def helm(request: pytest.FixtureRequest) -> Path:
    return found(request.param)


@pytest.fixture(params=["kubectl-1.32", "kubectl-1.37"])
def kubectl(request: pytest.FixtureRequest) -> Path:
    return found(request.param)


def test_the_chart_is_clean(helm: Path) -> None:
    for options in ([], *(["-f", path] for path in VALUES)):
        command = [helm, "lint", "--strict", "--quiet", CHART, *options]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "WARNING" not in done.stdout


def test_the_plain_manifests_are_those_of_the_chart(helm: Path) -> None:
    """After a change of the chart: ``python -m deploy.tools.manifests``."""
    assert {path.name: path.read_text(encoding="utf-8") for path in BASE.iterdir()} == files(rendered(helm))


@values
def test_what_is_tested_without_helm_is_what_helm_makes(path: Path, helm: Path) -> None:
    assert (GOLDEN / golden_name(path)).read_text(encoding="utf-8") == golden_text(helm, path)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("pol_seconds=1", "pol_seconds"),
        ("config.publish.keeep=3", "keeep"),
        ("config.publish.keep=0", "keep"),
        ("config.log.format=xml", "format"),
        ("config.engine.memory_limit=2GX", "memory_limit"),
        ("config.method.name=opmc", "name"),
        ("config.method.name=iso,config.method.alpha=0.5", "alpha"),
        ("config.node.state=/tmp", "node"),
        ("config.publish.path=/tmp", "path"),
        ("registries[0].name=push,registries[0].claim=x", "name"),
        ("registries[0].name=a,registries[0].claim=x,registries[0].settings.poll_second=1", "poll_second"),
        ("persistence.state.size=50 GB", "size"),
        ("image.tag=latest", "tag"),
        ("replicas=-1", "replicas"),
        ("terminationGracePeriodSeconds=60", "terminationGracePeriodSeconds"),
        ("config.shutdown.drain_seconds=300,terminationGracePeriodSeconds=310", "terminationGracePeriodSeconds"),
        ("peers.enabled=true", "peers.tls"),
        ("peers.enabled=true,peers.insecure=true,peers.tokens.enabled=true", "peers.tokens.secret"),
        ("peers.enabled=true,peers.tls.certManager.enabled=true", "issuerRef.name"),
        ("config.peers.lineage=x", "peers.enabled"),
        ("metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true", "podMonitor"),
    ],
)
def test_wrong_values_are_refused_by_their_name(helm: Path, wrong: str, named: str) -> None:
    with pytest.raises(RuntimeError) as refused:
        rendered(helm, "--set", wrong)
    assert named in str(refused.value)


def test_the_values_of_the_guide_are_accepted(helm: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8"), re.S | re.M)
    assert len(blocks) >= 6
    for number, block in enumerate(blocks):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block, encoding="utf-8")
        assert rendered(helm, "-f", path)


def test_a_longer_drain_lengthens_the_grace_period(helm: Path) -> None:
    manifests = rendered(helm, "--set-json", "config.shutdown.drain_seconds=250.5")
    (spec,) = [each["spec"]["template"]["spec"] for each in manifests if each["kind"] == "StatefulSet"]
    assert spec["terminationGracePeriodSeconds"] == 271


def test_other_settings_make_other_pods(helm: Path) -> None:
    def checksum(*options: str) -> str:
        (found,) = [each for each in rendered(helm, *options) if each["kind"] == "StatefulSet"]
        return str(found["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    assert checksum() != checksum("--set", "config.publish.dtype=float32")
    assert checksum() != checksum("--set", "config.validation.max_tensors=3")
    assert checksum() != checksum("--set", f"{ENTRY},registries[0].settings.settle_polls=20")
    assert checksum() == checksum("--set", "persistence.state.size=80Gi")
    assert RELOADED.keys() == TAKEN_OVER.keys()
    for values in TAKEN_OVER.values():
        assert checksum() == checksum("--set", values), values


@pytest.mark.parametrize("folder", ["base", "overlays/example"])
def test_kustomize_builds_the_plain_manifests(kubectl: Path, folder: str) -> None:
    command = [kubectl, "kustomize", ROOT / "deploy/kustomize" / folder]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    built = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(done.stdout)}
    ((_, config),) = [name for name in built if name[0] == "ConfigMap"]
    pod = built["StatefulSet", "mergenode"]["spec"]["template"]["spec"]
    assert {"name": "config", "configMap": {"name": config}} in pod["volumes"]
    assert config.startswith("mergenode-config-"), "named by its content: other settings, other pods"
