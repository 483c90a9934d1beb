"""The manifests fit together and fit the node: labels, ports, paths, volumes, settings."""

from __future__ import annotations

import math
import re
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pytest
import yaml

from mergenode.adapters.http.app import StatusApp
from mergenode.settings.quantities import split_address
from mergenode.sizes import parse_size
from tests.support.manifests import ROOT, Manifest, Release, releases

RELEASES = releases()
NOTHING = cast(Any, None)
PATHS = {route.path for route in StatusApp("node", NOTHING, NOTHING, NOTHING, 1.0).routes()}
SPARE_SECONDS = 20
HARMLESS = {"runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup", "fsGroupChangePolicy", "seccompProfile"}
"""Of a pod's security context: nothing of sysctls, SELinux or Windows."""

each_release = pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)


def test_there_is_one_of_every_kind_to_look_at() -> None:
    """Of what may be switched off: what is asserted of each of none says nothing."""
    (defaults,) = [each for each in RELEASES if each.name == "plain"]
    assert len(defaults.every("Service")) == 2
    assert defaults.one("PodDisruptionBudget") and defaults.one("NetworkPolicy")
    found = {each["kind"] for release in RELEASES for each in release.manifests}
    assert found >= {"ServiceMonitor", "PodMonitor", "PrometheusRule", "Certificate", "Pod"}


def matches(selector: dict[str, Any], labels: Any) -> bool:
    return bool(selector) and selector.items() <= labels.items()


@each_release
def test_selectors_match_the_pods(release: Release) -> None:
    selector = release.stateful_set["spec"]["selector"]["matchLabels"]
    assert matches(selector, release.labels)
    found = [each["spec"]["selector"] for each in release.every("Service")]
    found += [each["spec"]["selector"]["matchLabels"] for each in release.every("PodMonitor")]
    found += [each["spec"]["selector"]["matchLabels"] for each in release.every("PodDisruptionBudget")]
    found += [each["spec"]["podSelector"]["matchLabels"] for each in release.every("NetworkPolicy")]
    found += [each["labelSelector"]["matchLabels"] for each in release.pod.get("topologySpreadConstraints") or []]
    assert found == [selector] * len(found)


@each_release
def test_selectors_pass_by_the_pod_of_helm_test(release: Release) -> None:
    selector = release.stateful_set["spec"]["selector"]["matchLabels"]
    assert not any(matches(selector, each["metadata"]["labels"]) for each in release.every("Pod"))


@each_release
def test_selectors_and_claims_hold_nothing_that_changes(release: Release) -> None:
    """They are immutable: a version in them would break the next upgrade for ever."""
    fixed = [release.stateful_set["spec"]["selector"]["matchLabels"]]
    fixed += [each["metadata"]["labels"] for each in release.stateful_set["spec"]["volumeClaimTemplates"]]
    assert not {"helm.sh/chart", "app.kubernetes.io/version"} & {label for labels in fixed for label in labels}


@each_release
def test_the_stable_names_are_those_of_the_headless_service(release: Release) -> None:
    (headless,) = [each for each in release.every("Service") if each["spec"].get("clusterIP") == "None"]
    assert release.stateful_set["spec"]["serviceName"] == headless["metadata"]["name"]
    assert headless["spec"]["publishNotReadyAddresses"] is True


@each_release
def test_probes_ask_paths_that_the_node_answers(release: Release, tmp_path: Path) -> None:
    address = release.settings(tmp_path).http.address
    assert address is not None
    wanted = {"startupProbe": "/startupz", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for name, path in wanted.items():
        request = release.container[name]["httpGet"]
        assert request["path"] == path
        assert path in PATHS
        assert release.ports[request["port"]] == address[1]


@each_release
def test_services_lead_to_ports_that_are_listened_on(release: Release, tmp_path: Path) -> None:
    settings = release.settings(tmp_path)
    listening = {
        "http": settings.http.address,
        "grpc": settings.peers.address,
        "grpc-tokens": settings.peers.tokens.address,
    }
    assert release.ports == {name: address[1] for name, address in listening.items() if address}
    for service in release.every("Service"):
        assert {each["targetPort"] for each in service["spec"]["ports"]} == set(release.ports)
    for name, address in listening.items():
        assert address is None or address[0] in ("0.0.0.0", "::"), name


@each_release
def test_monitors_scrape_a_port_that_exists(release: Release) -> None:
    for monitor in release.every("ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"]
        (service,) = [each for each in release.every("Service") if matches(selector, each["metadata"]["labels"])]
        for endpoint in monitor["spec"]["endpoints"]:
            assert endpoint["port"] in {each["name"] for each in service["spec"]["ports"]}
            assert endpoint["path"] in PATHS
    for monitor in release.every("PodMonitor"):
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            assert endpoint["port"] in release.ports
            assert endpoint["path"] in PATHS


@each_release
def test_network_policies_name_every_port_and_no_other(release: Release) -> None:
    for policy in release.every("NetworkPolicy"):
        opened = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
        assert opened == set(release.ports)
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        called = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
        assert ("grpc" in release.ports) == (called >= {53, "grpc"})


@each_release
def test_nobody_but_the_pods_calls_the_grpc_port_unasked(release: Release) -> None:
    if release.name != "peers":
        return
    own = release.stateful_set["spec"]["selector"]["matchLabels"]
    (rule,) = [each for each in release.one("NetworkPolicy")["spec"]["ingress"] if each["ports"][0]["port"] == "grpc"]
    assert rule["from"][0] == {"podSelector": {"matchLabels": own}}
    assert all(rule["from"])


@each_release
def test_disruption_is_bounded_and_hinders_no_drain(release: Release) -> None:
    for budget in release.every("PodDisruptionBudget"):
        assert budget["spec"]["maxUnavailable"] not in (0, "0%")
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@each_release
def test_images_have_a_version(release: Release) -> None:
    for pod in release.pods():
        for container in pod["containers"]:
            assert re.fullmatch(r"[\w./-]+(:\d[\w.-]*|@sha256:[0-9a-f]{64})", container["image"])


def test_nothing_in_the_repository_takes_an_image_whose_name_moves() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("deploy", "docs", "tests/golden/chart")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".yaml", ".md", ".tpl", ".json") or path.name == "Dockerfile"
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"[\w./-]+:latest\b|newTag: *[\"']?latest", line)
    }
    assert found == set()


@each_release
def test_pods_are_locked_down_beyond_the_restricted_profile(release: Release) -> None:
    """The profile itself: test_pod_security.py."""
    for pod in release.pods():
        assert not {"initContainers", "ephemeralContainers"} & set(pod)
        assert pod["automountServiceAccountToken"] is False
        assert set(pod["securityContext"]) <= HARMLESS
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            }
    assert release.pod["securityContext"]["fsGroup"] == 10001


def test_the_example_volumes_are_those_of_the_defaults_and_their_pods_are_allowed() -> None:
    text = (ROOT / "deploy/examples/volumes.yaml").read_text(encoding="utf-8")
    found = list(yaml.safe_load_all(text))
    claims = [each for each in found if each["kind"] == "PersistentVolumeClaim"]
    loaders = [each for each in found if each["kind"] == "Pod"]
    (defaults,) = [each for each in RELEASES if each.name == "plain"]
    mounted = [each.get("persistentVolumeClaim") for each in defaults.pod["volumes"]]
    wanted = {each["claimName"] for each in mounted if each}
    assert {each["metadata"]["name"] for each in claims} == wanted
    places = {each["mountPath"] for each in defaults.container["volumeMounts"]}
    for loader in loaders:
        (container,) = loader["spec"]["containers"]
        assert container["securityContext"] == defaults.container["securityContext"]
        assert loader["spec"]["securityContext"] == defaults.pod["securityContext"]
        assert {each["mountPath"] for each in container["volumeMounts"]} <= places
        assert sum("persistentVolumeClaim" in each for each in loader["spec"]["volumes"]) == 1


@each_release
def test_the_cluster_grants_no_rights(release: Release) -> None:
    assert not {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"} & {
        each["kind"] for each in release.manifests
    }
    for account in release.every("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
        assert release.pod["serviceAccountName"] == account["metadata"]["name"]


@each_release
def test_every_mount_has_its_volume_and_every_volume_its_mount(release: Release) -> None:
    volumes = [each["name"] for each in release.pod["volumes"]]
    volumes += [each["metadata"]["name"] for each in release.stateful_set["spec"]["volumeClaimTemplates"]]
    assert sorted(volumes) == sorted(each["name"] for each in release.container["volumeMounts"])


def mounted(release: Release, path: Path) -> Manifest:
    """The mount that a path of the settings lies in; one of its own, never the root."""
    place = PurePosixPath(path)
    (found,) = [
        each for each in release.container["volumeMounts"] if place.is_relative_to(PurePosixPath(each["mountPath"]))
    ]
    return found


@each_release
def test_settings_are_valid_and_their_places_are_mounted(release: Release, tmp_path: Path) -> None:
    settings = release.settings(tmp_path)
    assert settings.node.name == f"{release.stateful_set['metadata']['name']}-0"
    state = mounted(release, settings.node.state)
    claims = {each["metadata"]["name"] for each in release.stateful_set["spec"]["volumeClaimTemplates"]}
    assert state["name"] in claims, "a node that moves takes its state along"
    written = {state["name"], mounted(release, settings.publish.path)["name"], "tmp"}
    read = {
        mounted(release, settings.base)["name"],
        *(mounted(release, each.path)["name"] for each in settings.registries),
    }
    assert not written & read
    for mount in release.container["volumeMounts"]:
        assert (mount["name"] in written) or mount.get("readOnly") or release.name == "monitoring"
    config, given = release.container["args"][-1], mounted(release, Path(release.container["args"][-1]))
    assert PurePosixPath(config).name == "node.yaml"
    assert "subPath" not in given, "files mounted by subPath never change"


@each_release
def test_variables_of_the_settings_are_set(release: Release) -> None:
    used = set(re.findall(r"\$\{(\w+)\}", release.node_yaml))
    assert used <= release.environment().keys()


@each_release
def test_the_grace_period_fits_the_drain(release: Release, tmp_path: Path) -> None:
    drain = release.settings(tmp_path).shutdown.drain_seconds
    assert release.pod["terminationGracePeriodSeconds"] >= math.ceil(drain) + SPARE_SECONDS


@each_release
def test_the_memory_limit_lies_above_what_the_node_may_use(release: Release, tmp_path: Path) -> None:
    settings, resources = release.settings(tmp_path), release.container["resources"]
    task = settings.task.memory_limit if settings.task.entrypoint else 0
    assert parse_size(f"{resources['limits']['memory']}B") > settings.engine.memory_limit + task
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert "cpu" not in resources["limits"], "throttled probes fail"


@each_release
def test_names_of_neighbours_and_certificates_are_those_of_the_pods(release: Release, tmp_path: Path) -> None:
    settings, spec = release.settings(tmp_path), release.stateful_set["spec"]
    if settings.peers.address is None:
        return
    assert settings.peers.advertise is not None
    pod, _, domain = split_address(settings.peers.advertise)[0].partition(".")
    assert (pod, domain) == (settings.node.name, f"{spec['serviceName']}.models.svc")
    assert settings.peers.neighbours[0] == f"dns:{domain}:{settings.peers.address[1]}"
    own = [domain, *(f"{release.stateful_set['metadata']['name']}-{number}.{domain}" for number in range(3))]
    for certificate in release.every("Certificate"):
        names = certificate["spec"]["dnsNames"]
        assert all(any(fnmatch(host, name) for name in names) for host in own)
        assert own[0] in names, "a wildcard is not for the name below which it stands"
        assert any(fnmatch(uri, settings.peers.roles.peer[0]) for uri in certificate["spec"]["uris"])
        (secret,) = [each["secret"] for each in release.pod["volumes"] if each["name"] == "tls"]
        assert secret["secretName"] == certificate["spec"]["secretName"]


@each_release
def test_no_setting_depends_on_the_number_of_pods(release: Release) -> None:
    """Or a pod more would make all others start again."""
    name, replicas = release.stateful_set["metadata"]["name"], release.stateful_set["spec"]["replicas"]
    assert not [number for number in range(replicas + 1) if f"{name}-{number}" in release.node_yaml]


def test_null_in_the_values_is_null_in_the_settings(tmp_path: Path) -> None:
    """Helm drops keys that are null where the defaults have them: the chart's defaults name no such setting."""
    (peers,) = [each for each in RELEASES if each.name == "peers"]
    assert peers.settings(tmp_path).publish.every.contributions is None
