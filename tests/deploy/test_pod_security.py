"""Every pod of deploy/ passes the profile ``restricted``; and what judges that knows each of its fields."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.manifests import ROOT, Manifest, plain, releases
from tests.support.pod_security import violations


def pods() -> Iterator[tuple[str, Manifest, dict[str, str]]]:
    """Name, specification and annotations of each."""
    for release in releases():
        template = release.stateful_set["spec"]["template"]
        yield f"{release.name} node", template["spec"], template["metadata"].get("annotations", {})
        for pod in release.every("Pod"):
            yield f"{release.name} {pod['metadata']['name']}", pod["spec"], pod["metadata"]["annotations"]
    for document in yaml.safe_load_all((ROOT / "deploy/examples/volumes.yaml").read_text(encoding="utf-8")):
        if document["kind"] == "Pod":
            yield "example loader", document["spec"], {}


PODS = list(pods())


@pytest.mark.parametrize(("pod", "annotations"), [each[1:] for each in PODS], ids=[each[0] for each in PODS])
def test_every_pod_passes_the_restricted_profile(pod: Manifest, annotations: dict[str, str]) -> None:
    assert violations(pod, annotations) == []


@pytest.mark.parametrize(
    ("where", "value", "named"),
    [
        ("hostNetwork", True, "hostNetwork"),
        ("hostPID", True, "hostPID"),
        ("hostIPC", True, "hostIPC"),
        ("volumes", [{"name": "x", "hostPath": {"path": "/"}}], "volumes.x"),
        ("volumes", [{"name": "x", "nfs": {"server": "a", "path": "/"}}], "volumes.x"),
        ("securityContext.sysctls", [{"name": "kernel.msgmax", "value": "1"}], "securityContext.sysctls"),
        ("securityContext.windowsOptions", {"hostProcess": True}, "securityContext.windowsOptions.hostProcess"),
        ("securityContext.appArmorProfile", {"type": "Unconfined"}, "securityContext.appArmorProfile"),
        ("securityContext.seLinuxOptions", {"type": "spc_t"}, "securityContext.seLinuxOptions"),
        ("securityContext.seLinuxOptions", {"user": "system_u"}, "securityContext.seLinuxOptions"),
        ("securityContext.seccompProfile", {"type": "Unconfined"}, "securityContext.seccompProfile"),
        ("securityContext.runAsNonRoot", False, "securityContext.runAsNonRoot"),
        ("securityContext.runAsUser", 0, "securityContext.runAsUser"),
        ("C.securityContext.runAsUser", 0, "C.securityContext.runAsUser"),
        ("C.securityContext.runAsNonRoot", False, "C.securityContext.runAsNonRoot"),
        ("C.securityContext.seccompProfile", {"type": "Unconfined"}, "C.securityContext.seccompProfile"),
        ("C.securityContext.privileged", True, "C.securityContext.privileged"),
        ("C.securityContext.procMount", "Unmasked", "C.securityContext.procMount"),
        ("C.securityContext.allowPrivilegeEscalation", None, "C.securityContext.allowPrivilegeEscalation"),
        ("C.securityContext.capabilities.drop", ["CHOWN"], "C.securityContext.capabilities.drop"),
        ("C.securityContext.capabilities.add", ["SYS_ADMIN"], "C.securityContext.capabilities.add"),
        ("C.securityContext.appArmorProfile", {"type": "Unconfined"}, "C.securityContext.appArmorProfile"),
        ("C.ports", [{"containerPort": 1, "hostPort": 1}], "C.ports.hostPort"),
        ("C.livenessProbe.httpGet.host", "10.0.0.1", "C.livenessProbe.httpGet.host"),
        ("C.lifecycle", {"preStop": {"httpGet": {"host": "a"}}}, "C.lifecycle.preStop.httpGet.host"),
    ],
)
def test_the_judge_refuses_each_field_by_its_name(where: str, value: Any, named: str) -> None:
    pod = copy.deepcopy(plain().pod)
    *sections, last = where.split(".")
    place = pod
    for section in sections:
        place = pod["containers"][0] if section == "C" else place.setdefault(section, {})
    place[last] = value
    assert violations(pod) == [f"containers.mergenode.{named[2:]}" if named.startswith("C.") else named]


def test_the_judge_misses_what_is_not_said_at_all() -> None:
    bare = {"name": "x", "image": "x:1"}
    assert violations({"initContainers": [bare], "containers": []}) == [
        f"initContainers.x.securityContext.{name}"
        for name in ("seccompProfile", "runAsNonRoot", "allowPrivilegeEscalation", "capabilities.drop")
    ]
    unconfined = {"container.apparmor.security.beta.kubernetes.io/mergenode": "unconfined"}
    assert violations(plain().pod, unconfined) == [f"annotations.{next(iter(unconfined))}"]
