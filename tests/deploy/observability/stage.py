"""Real nodes for one scenario, and what an operator sees of them in Prometheus."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from tests.deploy.observability.scenario import Fault, Scenario
from tests.deploy.observability.watcher import Watcher, free_port, until
from tests.support.checkpoints import Tensors, write_single
from tests.support.real_node import Process, RealNode, environment, mergenode

GROUPS = 6
PLAIN = {"name": "task_arithmetic", "scale": 1.0}


def small_base() -> Tensors:
    """Six layers of the same size and norm, so that layer groups are equals."""
    draw = torch.Generator().manual_seed(0)
    return {f"model.layers.{n}.mlp.weight": torch.randn(32, 32, generator=draw) * 0.1 for n in range(GROUPS)}


class Node:
    """A node, its process and its line in the list of targets. ``instance``: how alerts call it."""

    def __init__(
        self, stage: Stage, name: str, tensors: Tensors, *, watched: bool, settings: Mapping[str, Any]
    ) -> None:
        self._stage, self.name, self.base = stage, name, tensors
        self.instance = f"127.0.0.1:{free_port()}"
        self.settings: dict[str, Any] = {"node": {"name": name}, "http": {"listen": self.instance}, **settings}
        self.real = RealNode(stage.root / name, tensors=tensors, **self.settings)
        self.watched, self.process = watched, None
        self.environment: dict[str, str] = {}

    def start(self) -> Node:
        self.process = self._stage.stack.enter_context(Process("run", "-c", self.real.config, extra=self.environment))
        self.process.until("status on")
        if self.watched:
            self._stage.watcher.watch(self.instance)
        return self

    def send(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.process.pid, number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.join()

    def stop(self) -> None:
        assert self.process is not None and self.process.end() == 0

    def until(self, text: str) -> str:
        assert self.process is not None
        return self.process.until(text, 120.0)

    def configure(self, **settings: Any) -> None:
        self.settings |= settings
        self.real.configure(**self.settings)

    def tuned(
        self, seed: int, size: float = 0.01, *, along: float = 0.0, layers: Mapping[int, float] | None = None
    ) -> Tensors:
        """A fine-tune whose update has ``size`` norms of the base, spread evenly over the layers.

        ``along``: share (cosine) of a direction that is the same for all seeds; negative: against it. ``layers``: other
        factors of ``size`` for single layers.
        """
        found = {}
        for number, (name, tensor) in enumerate(self.base.items()):
            shared, own = _direction(tensor, 99 + number), _direction(tensor, 1000 * seed + number)
            delta = along * shared + (1 - along**2) ** 0.5 * own
            factor = (layers or {}).get(number, 1.0)
            found[name] = tensor + factor * size * tensor.norm() * delta
        return found

    def put(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        write_single(self.real.root / f".staged-{name}", tensors).rename(self.real.inbox / name)

    def fold(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Until its version is scraped, so that contributions that come one after another are seen by themselves."""
        self.put(name, tensors)
        self.until(f"folded '{name}'")
        self.published()

    def published(self) -> None:
        """Until the next version is visible, and scraped by whoever watches the node."""
        found = re.search(r"\bv(\d{6})", self.until("is visible at"))
        assert found is not None
        if self.watched:
            self.sees(f'mergenode_version{{instance="{self.instance}"}} >= {int(found[1])}')

    def honest(self, number: int, **tuning: Any) -> None:
        """So many usual contributions, and time for Prometheus to learn what is usual."""
        for seed in range(1, number + 1):
            self.fold(f"honest-{seed}", self.tuned(seed, **tuning))
        self.learnt()

    def learnt(self, seconds: int = 12) -> None:
        newest = time.time()
        self.sees(f'timestamp(mergenode_version{{instance="{self.instance}"}}) > {newest + seconds}')

    def sees(self, expr: str) -> None:
        """Wait until Prometheus knows."""
        until(lambda: self._stage.watcher.query(expr), lambda: f"{expr}: {self._stage.watcher.query(expr)}")

    def value(self, metric: str) -> float:
        """What Prometheus has of this node now; 0 where there is nothing."""
        found = self._stage.watcher.query(f'sum({metric}{{instance="{self.instance}"}})')
        return float(found[0]["value"][1]) if found else 0.0

    def command(self, *words: object) -> str:
        return typed(*words, "-c", self.real.config)


def typed(*words: object) -> str:
    """A command of mergenode that succeeds; what it prints."""
    ran = mergenode(*words)
    assert ran.returncode == 0, (words, ran.stdout, ran.stderr)
    return ran.stdout


def _direction(like: torch.Tensor, seed: int) -> torch.Tensor:
    drawn = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm()


class Stage:
    """What one scenario has for itself; all of it ends with the stack."""

    def __init__(self, root: Path, watcher: Watcher, stack: ExitStack) -> None:
        root.mkdir(parents=True)
        self.root, self.watcher, self.stack, self.began = root, watcher, stack, time.monotonic()
        self.nodes: list[Node] = []
        stack.callback(lambda: watcher.forget(*self.instances))

    @property
    def instances(self) -> list[str]:
        return [node.instance for node in self.nodes if node.watched]

    def node(
        self, name: str = "lone", *, tensors: Tensors | None = None, watched: bool = True, start: bool = True,
        **settings: Any,
    ) -> Node:  # fmt: skip
        """A quick node of its own, started unless told otherwise. Not ``watched``: of somebody else's Prometheus."""
        made = Node(self, name, small_base() if tensors is None else tensors, watched=watched,
                    settings={"method": PLAIN, **settings})  # fmt: skip
        self.nodes.append(made)
        return made.start() if start else made

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def wait(self, seconds: float) -> None:
        """For what only time brings, such as a window that has to fill."""
        threading.Event().wait(seconds)


def perform(stage: Stage, scenario: Scenario, operate: Callable[[Stage, Fault], None]) -> dict[str, Any]:
    """The whole story of one alert: quiet before, fires in both servers, is worked on, clears. Returns its figures."""
    name, watcher = scenario.alert, stage.watcher
    play = scenario.play(stage)
    fault = next(play)
    arisen = stage.seconds()

    def state() -> str:
        logs = [line for node in stage.nodes if node.process for line in node.process.lines[-12:]]
        own = "|".join(stage.instances)
        alerts = watcher.query(f'ALERTS{{instance=~"({own})?"}}')
        return f"{name}; {alerts}\n{''.join(logs)}"

    until(lambda: name in watcher.firing(*stage.instances), lambda: f"fires: {state()}")
    fired = stage.seconds()
    told = watcher.firing(*stage.instances)[name]
    text = told["summary"] + " " + told["description"]
    for each in fault.told:
        assert each in text, (each, text)
    until(lambda: name in watcher.mailed(*stage.instances), lambda: f"Alertmanager has {name}")
    operate(stage, fault)
    assert next(play, None) is None, "a scenario has one fault"
    mended = stage.seconds()
    until(lambda: not watcher.firing(*stage.instances), lambda: f"clears: {state()}", 180.0)
    until(lambda: name not in watcher.mailed(*stage.instances), f"Alertmanager forgets {name}")
    cleared = stage.seconds()
    seen = watcher.fired(cleared + 2, *stage.instances)
    assert name in seen and set(seen) <= {name, *scenario.beside}, (seen, text)
    return {
        "fires": fired - arisen, "clears": cleared - mended, "took": cleared, "beside": sorted(set(seen) - {name}),
        "told": text,
    }  # fmt: skip


__all__ = ["GROUPS", "PLAIN", "Node", "Stage", "environment", "perform", "small_base", "typed"]
