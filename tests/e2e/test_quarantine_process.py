"""Quarantine as its users see it: a real node, commands beside it, a team that pushes."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import torch

from mergenode.ledger.records import Folded
from tests.support.checkpoints import write_single
from tests.support.real_node import Process, RealNode, mergenode

GATES = {"norm": {"action": "quarantine", "max_ratio": 5.0, "min_members": 2, "max_group_ratio": None}}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    """A node with gates, an HTTP port and an intake, and the commands that its users call."""

    def __init__(self, root: Path) -> None:
        self.port = free_port()
        self.node = RealNode(
            root, gates=GATES, http={"listen": "127.0.0.1:0"},
            peers={"listen": f"127.0.0.1:{self.port}", "intake": {"enabled": True}},
        )  # fmt: skip

    def put(self, name: str, seed: int, step: float = 0.002) -> Path:
        return write_single(self.node.inbox / name, self.tuned(seed, step))

    def tuned(self, seed: int, step: float) -> dict[str, torch.Tensor]:
        base = self.node.tensors
        near = self.node.tuned(seed)
        factor = step / 0.01
        return {
            name: (base[name].float() + factor * (near[name].float() - base[name].float())).to(base[name].dtype)
            if base[name].is_floating_point()
            else base[name]
            for name in base
        }

    def said(self, *command: str, code: int = 0) -> dict[str, Any]:
        done = mergenode(*command, "-c", str(self.node.config), "--json")
        assert done.returncode == code, (command, done.stdout, done.stderr)
        return dict(json.loads(done.stdout))

    def push(self, model: Path, code: int) -> dict[str, Any]:
        done = mergenode("push", str(model), "--to", f"127.0.0.1:{self.port}", "--wait", "--json")
        assert done.returncode == code, (done.stdout, done.stderr)
        return dict(json.loads(done.stdout))


def until(condition: Callable[[], bool]) -> None:
    """Ask again and again; the process has a minute."""
    for _ in range(600):
        if condition():
            return
        threading.Event().wait(0.1)
    raise AssertionError("it did not come")


def test_held_back_listed_shown_released_and_dropped(tmp_path: Path) -> None:
    running = Running(tmp_path)
    node = running.node
    for seed in (1, 2):
        running.put(f"honest-{seed}", seed)
    running.put("huge", 3, step=0.02)
    running.put("wild", 4, step=0.03)
    with Process("run", "-c", node.config) as process:
        address = process.until("http://").split("status on ")[1].strip()
        with httpx.Client(base_url=address, timeout=30) as client:
            until(lambda: len(node.facts("quarantined")) == 2)
            assert [entry["name"] for entry in running.said("quarantine", "list")["quarantined"]] == ["huge", "wild"]
            shown = running.said("quarantine", "show", "huge")["entry"]
            assert (shown["gate"], shown["reason"]) == ("norm", "norm_above_median")
            assert shown["numbers"]["norm"] > 5 * shown["numbers"]["median"] and shown["findings"][0]["hint"]
            assert [entry["name"] for entry in client.get("/api/v1/quarantine").json()["quarantined"]] == [
                "wild",
                "huge",
            ]
            assert "mergenode_quarantined 2.0" in client.get("/metrics").text
            assert 'mergenode_gate_findings_total{action="quarantine",gate="norm"} 2.0' in client.get("/metrics").text

            pushed = write_single(tmp_path / "mine", running.tuned(5, 0.025))
            answer = running.push(pushed, code=1)
            assert (answer["outcome"], answer["reason"]) == ("quarantined", "norm_above_median")

            running.said("release", "huge", "--why", "on purpose")
            until(lambda: "huge" in [fact.name for fact in node.facts("folded") if isinstance(fact, Folded)])
            folded = next(fact for fact in node.facts("folded") if isinstance(fact, Folded) and fact.name == "huge")
            assert [finding["action"] for finding in folded.findings] == ["observe"]
            running.said("quarantine", "drop", "wild", "mine", "--why", "diverged")
            until(lambda: "mergenode_quarantined 0.0" in client.get("/metrics").text)
            assert running.push(pushed, code=1)["reason"] == "dropped"
            assert not list((node.state / "pushes").glob("mine@*")), "what was dropped is removed"
        assert process.end() == 0
    assert node.outcomes()["wild"] == ["dropped"] and node.problems() == []
    assert node.run_once().complete
    assert sorted(fact.name for fact in node.facts("folded") if isinstance(fact, Folded)) == [
        "honest-1",
        "honest-2",
        "huge",
    ]
    assert not list((node.state / "folding").glob("*.safetensors"))
