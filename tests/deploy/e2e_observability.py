"""Real nodes watched by a real Prometheus: panels have data, faults fire their alerts, runbooks' commands run.

``make observability-e2e`` runs it, and no other target: it takes minutes. Rules have their windows divided by sixty.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import torch
import yaml

from tests.support.checkpoints import Tensors, base_tensors, write_single
from tests.support.observability import ALERTS, RULES, RUNBOOKS, commands, queries
from tests.support.real_node import Process, RealNode, mergenode

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="prometheus is not installed (Debian: packages prometheus{,-alertmanager})",
)
ALONE, NORTH, SOUTH, WEST = "alone", "north", "south", "west"
GATES = {"norm": {"action": "quarantine", "max_ratio": 20.0, "min_members": 2, "max_group_ratio": None}}
READING = {"status", "history", "show", "diff", "plan", "pool", "peers", "verify", "quarantine", "config", "certs"}
"""First words of commands that change nothing; of others those with --dry-run are run."""


class World:
    """A node of its own, three nodes of a union, and what watches them. Deltas share a direction, as fine-tunes do."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self.root, self._stack = root, stack
        self.base = {name: tensor for name, tensor in base_tensors().items() if tensor.numel() >= 1000}
        self.http = {name: free_port() for name in (ALONE, NORTH, SOUTH, WEST)}
        self.peers = {name: free_port() for name in (NORTH, SOUTH, WEST)}
        self.running: dict[str, Process] = {}
        self.ran: dict[tuple[str, ...], subprocess.CompletedProcess[str]] = {}
        done("certs", "init", root / "certs")
        self.nodes = {ALONE: self._node(ALONE, gates=GATES), **{name: self._united(name) for name in self.peers}}
        for name in self.nodes:
            self.start(name)
        targets = [f"127.0.0.1:{port}" for port in self.http.values()]
        self.watcher = Watcher(root / "watch", yaml.safe_load(RULES.read_text()), targets, stack)

    def _node(self, name: str, **settings: object) -> RealNode:
        http = {"listen": f"127.0.0.1:{self.http[name]}"}
        return RealNode(self.root / name, tensors=self.base, http=http, node={"name": name}, **settings)

    def _united(self, name: str) -> RealNode:
        self.certificate(name, 90)
        others = [port for other, port in self.peers.items() if other != name]
        files = self.root / "certs" / name
        tls = {"certificate": str(files / "tls.crt"), "key": str(files / "tls.key"), "authority": str(files / "ca.crt")}
        neighbours = [f"127.0.0.1:{port}" for port in others]
        peers = {"listen": f"127.0.0.1:{self.peers[name]}", "neighbours": neighbours, "tls": tls}
        return self._node(name, method={"name": "iso"}, mixer={"name": "union"}, peers=peers)

    def certificate(self, name: str, days: int) -> None:
        done("certs", "node", self.root / "certs", name, "--host", "127.0.0.1", "--days", days, "--force")

    def start(self, name: str) -> None:
        self.running[name] = self._stack.enter_context(Process("run", "-c", self.nodes[name].config))
        self.running[name].until("status on")

    def kill(self, name: str) -> None:
        os.kill(self.running[name].process.pid, signal.SIGKILL)
        self.running[name].join()

    def tuned(self, seed: int, *, step: float = 0.001, along: float = 1.0) -> Tensors:
        """``along``: how much of the shared direction."""
        shared, own = torch.Generator().manual_seed(99), torch.Generator().manual_seed(seed)
        made = {}
        for name, tensor in self.base.items():
            delta = along * torch.randn(tensor.shape, generator=shared) + torch.randn(tensor.shape, generator=own)
            made[name] = (tensor.float() + step * delta).to(tensor.dtype)
        made["lm_head.weight"] = made["model.embed_tokens.weight"].clone()
        return made

    def put(self, node: str, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        staged = write_single(self.root / f".staged-{name}", tensors)
        staged.rename(self.nodes[node].inbox / name)

    def fold(self, node: str, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        self.put(node, name, tensors)
        self.running[node].until(f"folded '{name}'")

    def alert(self, name: str, *beside: str) -> dict[str, str]:
        """Wait until it fires; no other does but those that the same fault causes as well."""
        until(lambda: name in self.watcher.firing(), f"{name} fires; {self.watcher.query('ALERTS')}")
        firing = self.watcher.firing()
        print(f"fires: {sorted(firing)}: {firing[name]['summary']} | {firing[name]['description']}")
        assert set(firing) <= {name, *beside}, firing
        if self.watcher.manager is not None:
            until(lambda: name in (self.watcher.mailed() or {}), f"Alertmanager has {name}")
        return firing[name]

    def calm(self, *but: str) -> None:
        until(lambda: set(self.watcher.firing()) <= set(but), f"all is well: {self.watcher.firing()}", 400)


def done(*command: object) -> None:
    ran = mergenode(*command)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        world = World(tmp_path_factory.mktemp("world"), stack)
        for seed in range(1, 6):
            world.fold(ALONE, f"honest-{seed}", world.tuned(seed))
        world.fold(NORTH, "from-north", world.tuned(11))
        world.fold(SOUTH, "from-south", world.tuned(12))
        for name in (NORTH, SOUTH, WEST):
            node = world.nodes[name]
            until(
                lambda node=node: (node.published / "latest").exists() and len(node.manifest()["contributions"]) == 2,
                "the union is published",
            )
        until(lambda: len(world.watcher.query("mergenode_version > 0")) == 4, "four nodes are scraped")
        yield world


def test_scrapes_are_well_formed(world: World) -> None:
    for port in world.http.values():
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
        text = "".join(line for line in text.splitlines(keepends=True) if "process_" not in line)
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False
        )
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_nothing_fires_while_all_is_well(world: World) -> None:
    until(lambda: world.watcher.query("count(count_over_time(up[1m]) > 20) == 4"), "there is something to judge")
    assert world.watcher.firing() == {}


def test_every_panel_has_data_or_says_why_not(world: World) -> None:
    silent, asked = [], 0
    for name, panel, expr in queries():
        asked += 1
        filled = expr.replace("$__rate_interval", "30s").replace("$job", ".*").replace("$instance", ".*")
        if not world.watcher.query(filled):
            silent.append((name, panel["title"], panel["fieldConfig"]["defaults"]["noValue"], expr))
    print(f"{asked} queries, {len(silent)} without data:", *silent, sep="\n  ")
    assert [each for each in silent if each[2] == "no data"] == []


def test_a_rejection(world: World) -> None:
    bad = world.tuned(21)
    bad["model.embed_tokens.weight"] = torch.zeros(4, 4)
    world.put(ALONE, "broken", bad)
    assert world.alert("MergenodeRejected")["registry"] == "inbox"
    world.calm()


def test_a_newcomer_against_the_merge_is_named_by_its_layers(world: World) -> None:
    world.fold(ALONE, "opposed", world.tuned(22, along=-3.0))
    told = world.alert("MergenodeNewcomerAgainstMerge", "MergenodeShareKeptCollapsed")
    assert "model.layers.0 (-" in told["description"], told
    world.fold(ALONE, "honest-6", world.tuned(6))
    world.calm()


def test_a_huge_contribution_and_one_that_a_gate_holds_back(world: World) -> None:
    world.fold(ALONE, "large", world.tuned(23, step=0.008))
    world.alert("MergenodeContributionHuge", "MergenodeLayersApart")
    world.put(ALONE, "wild", world.tuned(24, step=0.03))
    world.running[ALONE].until("wild")
    world.alert("MergenodeQuarantined", "MergenodeContributionHuge", "MergenodeLayersApart")
    done("quarantine", "drop", "wild", "--why", "diverged", "-c", world.nodes[ALONE].config)
    world.fold(ALONE, "honest-7", world.tuned(7))
    until(lambda: "MergenodeRejected" in world.watcher.firing(), "what is dropped counts as rejected")
    world.calm()


def test_a_lost_registry(world: World) -> None:
    inbox = world.nodes[ALONE].inbox
    away = inbox.rename(inbox.with_name("away"))
    assert world.alert("MergenodeRegistryUnreachable")["registry"] == "inbox"
    away.rename(inbox)
    world.calm()


def test_nodes_that_die_and_one_that_comes_back_with_a_certificate_that_ends_soon(world: World) -> None:
    world.kill(SOUTH)
    down = world.alert("MergenodeDown", "MergenodePeerDown")
    assert str(world.http[SOUTH]) in down["instance"]
    world.alert("MergenodePeerDown", "MergenodeDown")
    world.kill(WEST)
    assert world.alert("MergenodePeersLost", "MergenodePeerDown", "MergenodeDown")["severity"] == "critical"
    world.start(WEST)
    world.certificate(SOUTH, 1)
    world.start(SOUTH)
    world.alert("MergenodeCertificateExpiring", "MergenodePeersLost", "MergenodePeerDown", "MergenodeDown")
    world.calm("MergenodeCertificateExpiring")


def test_a_node_that_starts_again_and_again(world: World) -> None:
    for _ in range(5):
        world.kill(NORTH)
        world.start(NORTH)
        instance = f"127.0.0.1:{world.http[NORTH]}"
        born = f'process_start_time_seconds{{instance="{instance}"}} > {time.time() - 30}'
        until(lambda born=born: world.watcher.query(born), "the new process is scraped")
    beside = ("MergenodeCertificateExpiring", "MergenodePeerDown", "MergenodeDown")
    assert world.alert("MergenodeRestarting", *beside)["instance"] == instance
    world.calm("MergenodeCertificateExpiring")


@pytest.fixture(scope="module")
def held(world: World) -> str:
    """Something that stays in quarantine."""
    world.put(ALONE, "held", world.tuned(25, step=0.03))
    world.running[ALONE].until("'held'")
    until(lambda: world.watcher.query("mergenode_quarantined > 0"), "it is in quarantine")
    return "held"


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_commands_of_a_runbook_run(world: World, held: str, name: str) -> None:
    """Those that only look, on a node that they can be about."""
    runbook = (RUNBOOKS / f"{name}.md").read_text()
    node = world.nodes[NORTH if "mergenode peers" in runbook else ALONE]
    first, second = sorted(int(path.name[1:]) for path in node.published.glob("v*"))[-2:]
    known = "from-north" if node is world.nodes[NORTH] else "honest-1"
    place = {
        "node.yaml": node.config,
        "NAME": held if "mergenode quarantine" in runbook else known,
        "FIRST": first,
        "SECOND": second,
        "VERSION": first,
        "FILE": world.root / "certs" / NORTH / "tls.crt",
    }
    for command in commands(runbook):
        words = shlex.split(command)[1:]
        looks = words[0] in READING or "--dry-run" in words
        if not looks or {"release", "drop", "forget"} & set(words):
            continue
        filled = tuple(str(place.get(word, word)) for word in words)
        if words[:2] != ["config", "check"] and words[0] != "certs" and "-c" not in words:
            filled = (*filled, "-c", str(node.config))
        if filled not in world.ran:
            world.ran[filled] = mergenode(*filled)
        ran = world.ran[filled]
        assert ran.returncode in (0, 1) and "Traceback" not in ran.stderr, (filled, ran.stdout, ran.stderr)
        assert ran.returncode == 0 or "pool rank" in command, (filled, ran.stdout, ran.stderr)  # there is no selector
