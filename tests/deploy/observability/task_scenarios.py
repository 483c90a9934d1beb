"""What the task plug-in says, and what happens when it fails: scores, selections, gates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.deploy.observability.plugin import drawn, set_mood, write
from tests.deploy.observability.scenario import Fault, provokes
from tests.deploy.observability.stage import PLAIN, Node, Stage
from tests.support.checkpoints import Tensors

TASK_CHECK = {"task check": {1}}
"""It ends with 1 where a method of the plug-in fails."""


def towards(node: Node, **parts: float) -> Tensors:
    """A task vector of such parts of directions, named as ``d7``."""
    found = {}
    for number, (name, tensor) in enumerate(node.base.items()):
        update = sum(part * drawn(int(seed[1:]))[number] for seed, part in parts.items())
        found[name] = tensor + tensor.norm() * update
    return found


def selecting(stage: Stage, **selector: Any) -> Node:
    """A node that chooses from a pool, with a first selection."""
    settings = {"name": "frank_wolfe", "gap": 0.001, "longest": None, **selector}
    node = stage.node(
        start=False, method=PLAIN, selector=settings, gates={"norm": {"action": "off"}},
        task=write(stage.root / "plugin", goal={"100": 0.02, "200": 0.02}),
    )  # fmt: skip
    node.start()
    node.put("first", towards(node, d100=0.04))
    node.published()
    return node


@provokes("MergenodeScoreFell", "a contribution harms a task that the weights are not fitted for")
def score_fell(stage: Stage) -> Iterator[Fault]:
    task = write(stage.root / "plugin")
    node = stage.node(task=task, weigh={"name": "fit", "evaluations": 6}, gates={"norm": {"action": "off"}})
    for seed in (1, 2, 3):
        node.fold(f"honest-{seed}", node.tuned(seed, layers={1: 0.0}))
    node.learnt()
    node.fold("harmful", node.tuned(9, layers={1: 4.0}))
    yield Fault(
        node,
        {"NAME": "harmful", "FIRST": 3, "SECOND": 4, "VERSION": 3},
        others={"retract": {"NAME": "honest-1"}},
        told=("kept",),
    )
    node.put("honest-4", node.tuned(4, layers={1: 0.0}))
    node.until("folded 'honest-4'")


@provokes("MergenodeSelectionGapRising", "the pool grows by what takes more rounds than the settings allow")
def selection_gap_rising(stage: Stage) -> Iterator[Fault]:
    node = selecting(stage, rounds=1)
    node.learnt(30)
    node.put("second", towards(node, d200=0.05, d300=0.02))
    node.put("third", towards(node, d200=0.04, d300=-0.02))
    yield Fault(node)
    node.put("goal", towards(node, d100=0.02, d200=0.02))


@provokes("MergenodeSelectionFailing", "the loss of the plug-in fails when the pool is chosen from")
def selection_failing(stage: Stage) -> Iterator[Fault]:
    node = selecting(stage)
    node.learnt(43)
    set_mood(stage.root / "plugin", goal={"100": 0.02, "200": 0.02}, fails=["loss"])
    node.put("second", towards(node, d200=0.04))
    yield Fault(node, codes=TASK_CHECK)
    set_mood(stage.root / "plugin", goal={"100": 0.02, "200": 0.02})
    node.published()


@provokes("MergenodeTaskFailing", "the scores that a gate asks for fail")
def task_failing(stage: Stage) -> Iterator[Fault]:
    task = write(stage.root / "plugin")
    node = stage.node(task=task, gates={"evaluation": {"action": "reject"}})
    node.honest(1, layers={1: 0.0})
    set_mood(stage.root / "plugin", fails=["evaluate"])
    node.put("waits", node.tuned(2, layers={1: 0.0}))
    yield Fault(node, codes=TASK_CHECK)
    set_mood(stage.root / "plugin")
    node.until("folded 'waits'")
