"""A node whose task plug-in misbehaves in every way: it says what is wrong, keeps what it has, and goes on."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from torch import Tensor

from mergenode.cli.root import cli
from tests.support.checkpoints import write_single
from tests.support.choosing_task import goal, weights, write_plugin
from tests.support.real_node import Process, RealNode

Version = tuple[str, dict[str, bytes]]
"""Its name, and every byte of it."""

TASK = {"entrypoint": "choosing_task:Task", "path": "./plugins", "memory_limit": "1GiB", "timeout": 5.0}

SPOILT = """

import os, signal, sys, time

class {name}(Task):
    def build_model(self):
        {build}
        return super().build_model()

    def loss(self, model, batch):
        return self.spoilt(super().loss(model, batch), "loss")

    def evaluate(self, model):
        with torch.no_grad():
            wanted = goal()
            found = model.state_dict()
            return {{"near": self.spoilt(1 - sum((found[n] - wanted[n]).square().mean() for n in wanted), "evaluate")}}

    def spoilt(self, value, method):
        {code}
        return value

Task = {name}
"""


@dataclass(frozen=True)
class Fault:
    """``code``: what each number of the plug-in goes through; ``said``: what the node has to say about it."""

    name: str
    said: str
    hint: str
    code: str = "pass"
    build: str = "pass"


GOOD = Fault("Good", "", "")
RAISES = Fault("Raises", ": ValueError: no such data set (", "task check", "raise ValueError('no such data set')")
HANGS = Fault("Hangs", " took longer than 5 seconds", "task.timeout", "time.sleep(3600)")
NAN = Fault("NotANumber", "() returned nan", "finite", "value = value * float('nan')")
BY_METHOD = [
    [
        RAISES,
        Fault("Leaks", "allocate memory", "task.memory_limit",
              "kept = []; [kept.append(torch.ones(1 << 22)) for _ in iter(int, 1)]"),
    ],
    [
        Fault("Kills", "by signal SIGKILL during the gradient of loss(): farewell", "task.memory_limit",
              "print('farewell'); os.kill(os.getpid(), signal.SIGKILL)"),
        Fault("Exits", "with status 3 during the gradient of loss()", "task.memory_limit", "os._exit(3)"),
    ],
    [HANGS, NAN],
    [
        Fault("WrongShape", "loss() returned a tensor of shape [2]", "has to", "value = value.expand(2)"),
        Fault("WrongModel", "of the model", "build_model()", build="return torch.nn.Linear(3, 2)"),
    ],
]  # fmt: skip
"""What goes wrong with one contribution after another, before the plug-in is repaired."""


class Watched:
    """A node in a process of its own, its plug-in and its HTTP port."""

    def __init__(self, node: RealNode, process: Process, client: httpx.Client) -> None:
        self.node, self.process, self.client = node, process, client

    def plugin(self, fault: Fault) -> None:
        spoil(self.node, fault)

    def offer(self, name: str, vector: Mapping[str, Tensor]) -> None:
        offer(self.node, name, vector)

    def until(self, *texts: str) -> dict[str, Any]:
        """The next line of the log with all of them."""
        while True:
            line = self.process.until(texts[0])
            if all(text in line for text in texts):
                return dict(json.loads(line))

    def complains(self, fault: Fault, subject: str) -> None:
        """About this fault, with what to do, in the log and by HTTP."""
        told = self.until('"retrying"', fault.said)
        assert told["fields"]["subject"] == subject and fault.hint in told["fields"]["hint"], told
        assert (told["level"], told["fields"]["reason"]) == ("warning", "task_failed")
        assert self.client.get("/livez").status_code == 200
        eventually(
            lambda: (self.client.get("/api/v1/status").json()["retrying"] or {}).get("hint") == told["fields"]["hint"]
        )

    def retries(self) -> float:
        prefix = 'mergenode_retries_total{reason="task_failed"} '
        found = [line for line in self.client.get("/metrics").text.splitlines() if line.startswith(prefix)]
        return float(found[0].removeprefix(prefix))

    def kill_plugin(self) -> None:
        """As the kernel does when memory is short. What is asked next needs a new process, with the file of now."""
        for number in plugins_of(self.process.process.pid):
            os.kill(number, signal.SIGKILL)

    def latest(self) -> Version:
        place = (self.node.published / "latest").resolve()
        return place.name, {path.name: path.read_bytes() for path in sorted(place.iterdir())}


def spoil(node: RealNode, fault: Fault) -> None:
    """Replace the plug-in, in one step."""
    staged = write_plugin(node.root / "staged") / "choosing_task.py"
    source = SPOILT.format(name=fault.name, code=fault.code, build=fault.build)
    staged.write_text(staged.read_text() + source)
    (node.root / "plugins").mkdir(exist_ok=True)
    staged.rename(node.root / "plugins" / "choosing_task.py")


def offer(node: RealNode, name: str, vector: Mapping[str, Tensor]) -> None:
    tuned = {key: base + vector[key] for key, base in weights(0).items()}
    write_single(node.root / f".{name}", tuned).rename(node.inbox / name)


def towards_the_goal(noise: float, seed: int) -> dict[str, Tensor]:
    return {name: value - weights(0)[name] + weights(seed, noise)[name] for name, value in goal().items()}


def part_of_the_way(share: float) -> dict[str, Tensor]:
    """Half of the model goes towards the goal, the other half stays that of the base."""
    way = {name: share * value for name, value in towards_the_goal(0.0, 0).items()}
    return {name: value if name.startswith("left") else 0 * value for name, value in way.items()}


def eventually(condition: Callable[[], bool]) -> None:
    """A line of the log comes a moment before the same by HTTP."""
    for _ in range(600):
        if condition():
            return
        threading.Event().wait(0.1)
    raise AssertionError("it did not come")


def plugins_of(parent: int) -> list[int]:
    """Processes of a plug-in that this one started."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            mine = int(place.joinpath("stat").read_text().rpartition(")")[2].split()[1]) == parent
            if mine and b"mergenode.adapters.tasks.child" in place.joinpath("cmdline").read_bytes():
                found.append(int(place.name))
        except OSError:
            continue
    return found


@contextmanager
def running(root: Path, first: Mapping[str, Tensor], **settings: Any) -> Iterator[Watched]:
    """A node that has published what it made of its first contribution."""
    node = RealNode(
        root, tensors=weights(0), task=TASK, http={"listen": "127.0.0.1:0"}, log={"format": "json"},
        method={"name": "task_arithmetic", "scale": 1.0}, **settings,
    )  # fmt: skip
    spoil(node, GOOD)
    offer(node, "first", first)
    with Process("run", "-c", node.config) as process:
        address = json.loads(process.until("status on http://"))["message"].split("status on ")[1].strip()
        with httpx.Client(base_url=address, timeout=60) as client:
            watched = Watched(node, process, client)
            assert watched.until('"published"')["fields"]["version"] == 1
            yield watched
        assert process.end() == 0, "".join(process.lines)
    assert node.problems() == []


def command(node: RealNode, *arguments: str) -> str:
    done = CliRunner().invoke(cli, [*arguments, "-c", str(node.config)])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.slow
def test_a_selection_outlives_whatever_its_plugin_does(tmp_path: Path) -> None:
    with running(tmp_path, weights(1, 0.2), selector={"name": "frank_wolfe", "gap": 0.02, "rounds": 3}) as watched:
        for number, faults in enumerate(BY_METHOD, start=2):
            before, failed = watched.latest(), watched.retries()
            watched.plugin(faults[0])
            watched.kill_plugin()
            watched.offer(f"better-{number}", towards_the_goal(0.2 / number, number + 5))
            for fault, following in zip(faults, [*faults[1:], GOOD], strict=True):
                watched.complains(fault, "selection")
                assert watched.latest() == before
                if fault is faults[-1]:
                    before = other_work(watched, number)
                watched.plugin(following)
            assert watched.until('"published"')["fields"]["version"] > int(before[0][1:])
            assert watched.retries() >= failed + len(faults)
    assert watched.node.outcomes()["broken"] == ["not_finite"]


def other_work(watched: Watched, number: int) -> Version:
    """What needs no plug-in is done while it fails; the newest version then."""
    if number == 2:
        watched.offer("broken", {name: value / 0 for name, value in weights(9).items()})
        assert watched.until('"rejected"')["fields"]["reason"] == "not_finite"
    if number == 3:
        kept, held = watched.latest()[0], watched.node.manifest()["contributions"]
        command(watched.node, "retract", held[0]["name"], "--why", "it was asked for")
        published = watched.until('"published"')["fields"]["version"]
        assert published == int(kept[1:]) + 1
        assert held[0] not in watched.node.manifest()["contributions"]
    return watched.latest()


@pytest.mark.slow
def test_a_gate_outlives_whatever_its_plugin_does(tmp_path: Path) -> None:
    """The contribution that it is asked about waits, unjudged; what another gate decides is decided."""
    gates = {"evaluation": {"action": "quarantine"}, "frozen": {"action": "quarantine", "patterns": ["right.*"]}}
    with running(tmp_path, part_of_the_way(0.5), gates=gates) as watched:
        before = watched.latest()
        watched.plugin(RAISES)
        watched.offer("better", part_of_the_way(0.4))
        for number, (fault, following) in enumerate([(RAISES, HANGS), (HANGS, NAN), (NAN, GOOD)]):
            watched.complains(fault, "better")
            watched.offer(f"other-{number}", weights(number + 5, 0.2))
            assert watched.until('"quarantined"')["fields"]["name"] == f"other-{number}"
            assert watched.latest() == before
            watched.plugin(following)
        assert watched.until('"published"')["fields"]["version"] == 2
        assert "better" not in [
            entry["name"] for entry in watched.client.get("/api/v1/quarantine").json()["quarantined"]
        ]
    assert watched.node.outcomes() == {"first": ["folded"], "better": ["folded"]}
