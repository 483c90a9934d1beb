"""The Pod Security profile ``restricted``, field by field, ``baseline`` included: what an admission controller refuses.

kubernetes.io/docs/concepts/security/pod-security-standards, at version 1.34; pods of Linux.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

VOLUMES = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
)
SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
    }
)  # fmt: skip
SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
PROFILES = frozenset({"RuntimeDefault", "Localhost"})
CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
HANDLERS = ("startupProbe", "livenessProbe", "readinessProbe")
APPARMOR = "container.apparmor.security.beta.kubernetes.io/"

Fields = Mapping[str, Any]


def violations(pod: Fields, annotations: Mapping[str, str] | None = None) -> list[str]:
    """Dotted names of the fields of a pod's specification that the profile refuses, or misses."""
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name)]
    found += _volumes(pod)
    context = pod.get("securityContext", {})
    found += [f"securityContext.{name}" for name in _either(context)]
    found += ["securityContext.sysctls" for each in context.get("sysctls", []) if each["name"] not in SYSCTLS]
    for name, value in (annotations or {}).items():
        if name.startswith(APPARMOR) and value != "runtime/default" and not value.startswith("localhost/"):
            found.append(f"annotations.{name}")
    for kind in CONTAINERS:
        for container in pod.get(kind, []):
            found += [f"{kind}.{container['name']}.{name}" for name in _container(container, context)]
    return found


def _volumes(pod: Fields) -> Iterator[str]:
    for volume in pod.get("volumes", []):
        kinds = set(volume) - {"name"}
        if len(kinds) != 1 or not kinds <= VOLUMES:
            yield f"volumes.{volume['name']}"


def _either(context: Fields) -> Iterator[str]:
    """What neither a pod nor a container may set otherwise."""
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield "windowsOptions.hostProcess"
    if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in PROFILES:
        yield "appArmorProfile"
    labels = context.get("seLinuxOptions", {})
    if labels.get("type", "") not in SELINUX_TYPES or labels.get("user") or labels.get("role"):
        yield "seLinuxOptions"
    if context.get("seccompProfile", {}).get("type", "RuntimeDefault") not in PROFILES:
        yield "seccompProfile"
    if context.get("runAsNonRoot", True) is not True:
        yield "runAsNonRoot"
    if context.get("runAsUser") == 0:
        yield "runAsUser"


def _container(container: Fields, pod: Fields) -> Iterator[str]:
    context = container.get("securityContext", {})
    yield from (f"securityContext.{name}" for name in _either(context))
    for name in ("seccompProfile", "runAsNonRoot"):
        if name not in context and name not in pod:
            yield f"securityContext.{name}"
    if context.get("privileged"):
        yield "securityContext.privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "securityContext.allowPrivilegeEscalation"
    if context.get("procMount", "Default") != "Default":
        yield "securityContext.procMount"
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield "securityContext.capabilities.drop"
    if not set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"}:
        yield "securityContext.capabilities.add"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "ports.hostPort"
    handlers = {name: container.get(name, {}) for name in HANDLERS}
    handlers |= {f"lifecycle.{name}": each for name, each in container.get("lifecycle", {}).items()}
    for name, handler in handlers.items():
        for action in ("httpGet", "tcpSocket"):
            if handler.get(action, {}).get("host"):
                yield f"{name}.{action}.host"
