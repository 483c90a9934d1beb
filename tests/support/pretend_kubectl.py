"""``kubectl`` and ``helm`` for a cluster that is a folder: real ones read the command line, this one does what it asks.

Usage: ``python -m tests.support.pretend_kubectl kubectl|helm ARGUMENTS``. The folder ``$PRETEND_ROOT`` holds the file
systems of all pods as one, and ``objects``, a line ``Kind/name`` for everything that was applied or installed. What no
pod of it could do is refused as kubectl would: an object that is not there, a flag that does not exist.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests.support.document_commands import moved

ROOT = Path(os.environ["PRETEND_ROOT"])
REAL = Path(os.environ["PRETEND_TOOLS"])
KUBECTL, HELM = REAL / os.environ["PRETEND_KUBECTL"], REAL / os.environ["PRETEND_HELM"]
NOBODY = "http://127.0.0.1:1"
_ALIASES = {
    "pod": "Pod", "service": "Service", "statefulset": "StatefulSet", "pvc": "PersistentVolumeClaim",
    "namespace": "Namespace",
}  # fmt: skip


class Refused(Exception):
    """What a cluster would say."""


def objects() -> set[str]:
    file = ROOT / "objects"
    return set(file.read_text().split()) if file.exists() else set()


def add(manifests: str) -> None:
    """Take objects in; a StatefulSet makes its pods and their claims."""
    found = objects()
    for each in yaml.safe_load_all(manifests):
        if each is None:
            continue
        name = each["metadata"]["name"]
        found.add(f"{each['kind']}/{name}")
        if each["kind"] == "StatefulSet":
            for number in range(each["spec"]["replicas"]):
                found.add(f"Pod/{name}-{number}")
                found |= {
                    f"PersistentVolumeClaim/{claim['metadata']['name']}-{name}-{number}"
                    for claim in each["spec"]["volumeClaimTemplates"]
                }
        if each["kind"] == "ConfigMap" and "node.yaml" in each.get("data", {}):
            (ROOT / "node.yaml").write_text(each["data"]["node.yaml"])
    (ROOT / "objects").write_text("\n".join(sorted(found)))


def need(*names: str) -> None:
    for name in names:
        if name not in objects():
            raise Refused(f"{name} not found")


def understood(arguments: list[str]) -> None:
    """The real kubectl reads the command line up to where it would ask a server, and nobody answers."""
    done = subprocess.run([KUBECTL, f"--server={NOBODY}", *arguments], capture_output=True, text=True, check=False)
    if done.returncode and "127.0.0.1:1" not in done.stderr:
        raise Refused(done.stderr)


def named(arguments: list[str]) -> list[str]:
    """Objects that are named: ``kind/name``, or ``kind name``."""
    found = [word for word in arguments if re.fullmatch(r"[a-z]+/[\w-]+", word)]
    pairs = [pair.split("/") for pair in found]
    if len(arguments) > 2 and arguments[1] in _ALIASES and not arguments[2].startswith("-"):
        pairs.append([arguments[1], arguments[2]])
    return [f"{_ALIASES[kind]}/{name}" for kind, name in pairs]


def kubectl(arguments: list[str]) -> int:
    match arguments:
        case ["cp", source, target]:
            understood(arguments)
            return copy(place_of(source), Path(place_of(target)))
        case ["exec", *rest] if "--" in rest:
            pod = next(word for word in rest if not word.startswith("-"))
            need(f"Pod/{pod}")
            understood(arguments)
            return execute(pod, rest[rest.index("--") + 1 :])
        case ["kustomize", _]:
            return subprocess.run([KUBECTL, *arguments], check=False).returncode
        case ["apply", *_, "-f", file]:
            understood([*arguments, "--validate=false"])
            add(sys.stdin.read() if file == "-" else Path(file).read_text())
        case ["create", "namespace", name]:
            understood(arguments)
            add(f"{{kind: Namespace, metadata: {{name: {name}}}}}")
        case ["create", "secret", *_]:
            return subprocess.run([KUBECTL, *arguments, "--dry-run=client", "-o", "name"], check=False).returncode
        case ["config", *_]:
            return subprocess.run([KUBECTL, *arguments], check=False).returncode
        case ["delete", *_] if "-l" in arguments:
            understood(arguments)
        case ["wait" | "rollout" | "label" | "delete" | "patch" | "port-forward" | "get" | "scale", *_]:
            understood(arguments)
            need(*named(arguments))
        case _:
            raise Refused(f"nobody pretends: kubectl {' '.join(arguments)}")
    return 0


def place_of(word: str) -> str:
    pod, colon, path = word.partition(":")
    if not colon:
        return word
    need(f"Pod/{pod}")
    return moved(path, ROOT)


def copy(source: str, target: Path) -> int:
    """As kubectl: into a directory that is there, under its own name; ``DIR/.`` is the content of it."""
    if target.is_dir() and not source.endswith("/."):
        target = target / Path(source).name
    shutil.copytree(source, target, dirs_exist_ok=True, symlinks=True)
    return 0


def execute(pod: str, command: list[str]) -> int:
    """Run it here, in the pod's name and in the place of this process."""
    inside = [moved(word, ROOT) for word in command]
    os.execvpe(inside[0], inside, {**os.environ, "POD_NAME": pod, "CPU_REQUEST": "1"})


def helm(arguments: list[str]) -> int:
    match arguments:
        case ["install" | "upgrade", *rest]:
            made = subprocess.run(
                [HELM, "template", *rest, "--namespace", "models"], capture_output=True, text=True, check=False
            )
            if made.returncode:
                raise Refused(made.stderr)
            add(made.stdout)
        case ["test" | "uninstall", name]:
            need(f"StatefulSet/{name}")
        case _:
            raise Refused(f"nobody pretends: helm {' '.join(arguments)}")
    return 0


def main(arguments: list[str]) -> int:
    try:
        return {"kubectl": kubectl, "helm": helm}[arguments[0]](arguments[1:])
    except Refused as refused:
        sys.stderr.write(f"Error from server: {refused}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
