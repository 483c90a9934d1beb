"""docs/operate.md, followed word by word: every command in its blocks is run, or named here with why it is not."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from mergenode.cli.root import cli
from tests.support.checkpoints import base_tensors, finetuned, write_single
from tests.support.document_commands import blocks, commands, moved
from tests.support.real_node import ROOT, Process, environment

DOCUMENT = ROOT / "docs" / "operate.md"
NOT_HERE = {
    "useradd": "changes the machine",
    "install": "changes the machine",
    "python3": "the environment of the tests is used",
    "/opt/mergenode/bin/pip": "the same",
    "systemctl": "there is no systemd",
    "journalctl": "there is no systemd",
}
"""First words of commands that are not run, and why."""


class Machine:
    """A machine whose file system is a folder, with mergenode on its path."""

    def __init__(self, root: Path) -> None:
        self.root = root
        tools = root / "tools"
        tools.mkdir(parents=True)
        (tools / "mergenode").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m mergenode "$@"\n')
        (tools / "mergenode").chmod(0o755)
        self.environment = environment() | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}

    def run(self, command: str) -> str:
        """Its output. A command that watches a running node is ended by Ctrl-C, and that is no failure."""
        line = moved(command, self.root)
        if "--watch" in line:
            return self._watch(line)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=self.root, env=self.environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _watch(self, line: str) -> str:
        watching = subprocess.Popen(
            shlex.split(line), cwd=self.root, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip
        assert watching.stdout is not None
        first = watching.stdout.readline()
        if "does not run" not in first and '"running": false' not in first:
            os.killpg(watching.pid, signal.SIGINT)
        rest, told = watching.communicate(timeout=60)
        assert (watching.returncode, told) == (0, ""), f"$ {line}\n{first}{rest}{told}"
        return first + rest


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """What the document asks for: a base, an empty registry, the settings that it shows."""
    machine = Machine(tmp_path)
    write_single(tmp_path / "srv/base", base_tensors())
    for name in ("srv/inbox", "srv/published", "var/lib/mergenode", "etc/mergenode"):
        (tmp_path / name).mkdir(parents=True)
    shown = next(block for block in blocks(DOCUMENT.read_text(), "yaml") if "registries" in block)
    settings: dict[str, Any] = yaml.safe_load(moved(shown, tmp_path))
    settings["registries"] = [{"url": settings["registries"][0], "settle_seconds": 0, "settle_polls": 1}]
    settings["http"] = {"listen": f"127.0.0.1:{free_port()}"}
    (tmp_path / "etc/mergenode/node.yaml").write_text(yaml.safe_dump(settings))
    return machine


def free_port() -> int:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def put(machine: Machine, *names: str) -> None:
    for seed, name in enumerate(names, start=1):
        staged = write_single(machine.root / f"srv/.{name}", finetuned(base_tensors(), seed=seed))
        staged.rename(machine.root / "srv/inbox" / name)


def here(machine: Machine, command: str) -> str:
    """The output of a command that is run in this process: torch is imported once."""
    if "--watch" in command:
        return machine.run(command)
    done = CliRunner().invoke(cli, shlex.split(moved(command, machine.root))[1:], env={"COLUMNS": "200"})
    assert done.exit_code == 0, f"$ {command}\n{done.output}"
    return done.stdout


def to_run() -> Iterator[str]:
    for command in commands(DOCUMENT.read_text()):
        first = command.split()[0]
        assert first == "mergenode" or first in NOT_HERE, f"neither run nor named here: {command}"
        if first == "mergenode":
            yield command


@pytest.mark.slow
def test_operate_works_as_it_is_written(machine: Machine) -> None:
    """In its order: checked, planned, run once, watched, verified, taken back."""
    put(machine, "first", "my-finetune", "third")
    said = {command: here(machine, command) for command in to_run()}
    assert "3 contributions" in said["mergenode status -c /etc/mergenode/node.yaml"]
    history = here(machine, "mergenode history -c /etc/mergenode/node.yaml --json")
    left = [fact["name"] for fact in json.loads(history)["facts"] if fact["kind"] == "retracted"]
    assert left == ["my-finetune", "third"]


@pytest.mark.slow
def test_watching_a_running_node_ends_with_ctrl_c_and_with_the_node(machine: Machine) -> None:
    put(machine, "first")
    config = machine.root / "etc/mergenode/node.yaml"
    with Process("run", "-c", config) as node:
        node.until("version 1 is visible")
        assert "runs as process" in machine.run("mergenode status -c /etc/mergenode/node.yaml --watch")
        with Process("status", "-c", config, "--watch", "--interval", "0.1") as watching:
            watching.until("v000001, 1 contributions")
            assert node.end(signal.SIGTERM) == 0
            assert watching.join() == 0
            watching.until("has stopped")
            watching.until("does not run; nothing is begun")


def test_the_unit_runs_what_the_document_sets_up() -> None:
    (unit,) = blocks(DOCUMENT.read_text(), "ini")
    parsed = RawConfigParser()
    parsed.optionxform = str  # type: ignore[assignment, method-assign]  # keys of units have capitals
    parsed.read_string(unit)
    service = parsed["Service"]
    assert service["ExecStart"] == "/opt/mergenode/bin/mergenode run -c /etc/mergenode/node.yaml"
    text = DOCUMENT.read_text()
    assert f"useradd --system --home-dir /var/lib/mergenode {service['User']}" in text
    for place in service["ReadWritePaths"].split():
        assert place in next(command for command in commands(text) if command.startswith("install -d -o"))
