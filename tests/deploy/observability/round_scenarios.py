"""Nodes that train and mix in rounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.deploy.observability.peers_stage import Peers
from tests.deploy.observability.plugin import set_mood, write
from tests.deploy.observability.scenario import Fault, provokes
from tests.deploy.observability.stage import Node, Stage

TASK_CHECK = {"task check": {1}}


def rounds(stage: Stage, names: str, *, mixer: dict[str, Any] | None = None, **mood: Any) -> dict[str, Node]:
    """Nodes called by the letters, all neighbours of each other; the first is watched. Starts when all are there."""
    peers = Peers(stage, names)
    section = {
        "name": "dimat", "evaluate": False, "publish_every": 1000,
        "wait": {"shortest": 0.5, "longest": 5.0}, **(mixer or {}),
    }  # fmt: skip
    for number, name in enumerate(names):
        task = write(stage.root / f"plugin-{name}", **{"number": number, **mood})
        peers.node(name, watched=number == 0, registries=[], mixer=section, task=task)
    peers.start()
    first = peers.nodes[names[0]]
    first.sees(f'mergenode_rounds_total{{instance="{first.instance}"}} > 3')
    return peers.nodes


@provokes("MergenodeRoundStalled", "a training does not end")
def round_stalled(stage: Stage) -> Iterator[Fault]:
    node = rounds(stage, "ab")["a"]
    set_mood(stage.root / "plugin-a", hangs=True)
    yield Fault(node)
    set_mood(stage.root / "plugin-a")
    before = node.value("mergenode_rounds_total")
    node.sees(f'mergenode_rounds_total{{instance="{node.instance}"}} > {before}')


@provokes("MergenodeTrainingFailing", "the training of the plug-in fails")
def training_failing(stage: Stage) -> Iterator[Fault]:
    node = rounds(stage, "ab")["a"]
    set_mood(stage.root / "plugin-a", fails=["train"])
    yield Fault(node, codes=TASK_CHECK)
    set_mood(stage.root / "plugin-a")


@provokes("MergenodeConsensusDistanceRising", "a neighbour trains with steps twenty times as long")
def consensus_distance_rising(stage: Stage) -> Iterator[Fault]:
    node = rounds(stage, "ab")["a"]
    node.learnt(30)
    set_mood(stage.root / "plugin-b", number=1, step=0.2)
    yield Fault(node)
    set_mood(stage.root / "plugin-b", number=1)


@provokes("MergenodeMixesDropped", "two nodes have data that ask for different models")
def mixes_dropped(stage: Stage) -> Iterator[Fault]:
    nodes = rounds(stage, "ab", mixer={"defence": {"guard": 0.1}}, obeys=True)
    set_mood(stage.root / "plugin-b", number=1, obeys=True, goal={"100": 0.3})
    yield Fault(nodes["a"])
    set_mood(stage.root / "plugin-b", number=1, obeys=True)
