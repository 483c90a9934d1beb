"""docs/kubernetes.md, followed word by word on a cluster that is a folder: see ``tests.support.pretend_kubectl``.

Every command in its blocks is run, or named here with why it is not. Real Helm and kubectl read the command lines:
``make deploy-tools`` fetches them, without them the walk is skipped.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from deploy.tools.binaries import FOLDER, binary
from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.cli.push import push
from tests.docs.test_operate import Machine, free_port
from tests.support.checkpoints import base_tensors, finetuned, write_single
from tests.support.document_commands import blocks, commands, moved
from tests.support.real_node import ROOT, Process

DOCUMENT = ROOT / "docs" / "kubernetes.md"
TEXT = DOCUMENT.read_text()
NOT_HERE = {
    "docker": "there is no engine; `make deploy-check` looks at the Dockerfile",
    "MERGENODE_BASE=$PWD/my-base-model": "the same",
    "python3": "the environment of the tests is used",
}
"""First words of commands that are not run, and why."""
RUN = {"kubectl", "helm", "mergenode", "printf", "mkdir", "cp"}


class Cluster(Machine):
    """A cluster whose pods share one file system, a folder, and the directory that somebody works in."""

    def __init__(self, root: Path, helm: str, kubectl: str) -> None:
        super().__init__(root)
        self.environment |= {
            "PRETEND_ROOT": str(root), "PRETEND_TOOLS": str(FOLDER), "PRETEND_HELM": helm, "PRETEND_KUBECTL": kubectl,
            "KUBECONFIG": str(root / "kubeconfig"),
        }  # fmt: skip
        for name in ("kubectl", "helm"):
            script = root / "tools" / name
            script.write_text(
                f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m tests.support.pretend_kubectl {name} "$@"\n'
            )
            script.chmod(0o755)
        context = {"name": "here", "context": {"cluster": "", "user": ""}}
        kubeconfig = {"apiVersion": "v1", "kind": "Config", "current-context": "here", "contexts": [context]}
        (root / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
        for name in ("models/base", "registries/inbox", "data/state", "data/published", "etc/mergenode"):
            (root / name).mkdir(parents=True)
        shutil.copytree(ROOT / "deploy", root / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
        write_single(root / "my-base-model", base_tensors())
        write_single(root / "my-finetune", finetuned(base_tensors(), seed=1))
        shown = next(block for block in blocks(TEXT, "yaml") if block.startswith("# values.yaml"))
        (root / "values.yaml").write_text(shown)

    def node(self) -> Process:
        """The node of the pod ``mergenode-0``, with the settings that the chart made; nobody waits half a minute."""
        settings = yaml.safe_load(moved((self.root / "node.yaml").read_text(), self.root))
        settings["registries"][0] |= {"settle_seconds": 0, "settle_polls": 1, "poll_seconds": 0.1}
        settings["http"]["listen"] = f"0.0.0.0:{free_port()}"
        (self.root / "etc/mergenode/node.yaml").write_text(yaml.safe_dump(settings))
        os.environ |= {"POD_NAME": "mergenode-0", "CPU_REQUEST": "1"}
        return Process("run", "-c", self.root / "etc/mergenode/node.yaml")


def found_in_order() -> Iterator[str]:
    for command in commands(TEXT):
        first = command.split()[0]
        assert first in RUN or first in NOT_HERE, f"neither run nor named here: {command}"
        if first in RUN:
            yield command


@pytest.mark.slow
@pytest.mark.parametrize(("helm", "kubectl"), [("helm4", "kubectl-1.37")])
def test_kubernetes_works_as_it_is_written(
    tmp_path: Path, helm: str, kubectl: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (helm, kubectl):
        if binary(name) is None:
            pytest.skip(f"no {name}: `make deploy-tools` fetches it")
    for name in ("POD_NAME", "CPU_REQUEST"):
        monkeypatch.setenv(name, "1")
    cluster = Cluster(tmp_path, helm, kubectl)
    with ExitStack() as stack:
        node: Process | None = None
        for command in found_in_order():
            if command.startswith("mergenode push"):
                push.make_context("push", shlex.split(command)[2:])  # its options; nothing listens at that name
                continue
            if node is not None and "versions/v000001" in command:
                node.until("version 1 is visible")
            cluster.run(command)
            if node is None and command.startswith("helm install"):
                node = stack.enter_context(cluster.node())
                node.until("status on")
    merged = content_digest(tmp_path / "merged")
    assert merged == content_digest(tmp_path / "my-finetune"), "the first contribution comes back as it was"
    assert (tmp_path / "models/base/model.safetensors").exists() and (tmp_path / "team-x.token").read_text().strip()


@pytest.mark.parametrize("helm", ["helm3", "helm4"])
def test_all_values_that_the_document_shows_are_taken(tmp_path: Path, helm: str) -> None:
    tool = binary(helm)
    if tool is None:
        pytest.skip(f"no {helm}: `make deploy-tools` fetches it")
    several = next(block for block in blocks(TEXT, "yaml") if block.startswith("replicas"))
    for number, block in enumerate(blocks(TEXT, "yaml")):
        values = tmp_path / f"{number}.yaml"
        values.write_text(block)
        (tmp_path / "several.yaml").write_text(several)
        options = ["-f", tmp_path / "several.yaml"] if "peers:" in block and block != several else []
        if "certManager" in block:
            options += ["--set", "peers.tls.secret="]
        command = [tool, "template", "mergenode", ROOT / "deploy/helm/mergenode", *options, "-f", values]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, block + done.stderr


def test_every_command_is_run_or_named() -> None:
    assert len(list(found_in_order())) >= 25
    assert {command.split()[0] for command in commands(TEXT)} >= set(NOT_HERE), "names what is not there any more"
