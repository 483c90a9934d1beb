"""The line from the registry to the published version: what does not get in, and what does not get out."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from tests.deploy.observability.mounts import read_only, silent_share
from tests.deploy.observability.plugin import write
from tests.deploy.observability.scenario import Fault, provokes
from tests.deploy.observability.stage import Stage
from tests.support.checkpoints import write_sharded

GATES = {"norm": {"action": "quarantine", "max_ratio": 2.0, "min_members": 2, "max_group_ratio": None}}


@provokes("MergenodeRegistryUnreachable", "the directory of the registry is gone")
def registry_unreachable(stage: Stage) -> Iterator[Fault]:
    node = stage.node()
    node.honest(1)
    away = node.real.inbox.rename(node.real.inbox.with_name("away"))
    yield Fault(node, told=("inbox",), codes={"config check": {2}})
    away.rename(node.real.inbox)


@provokes(
    "MergenodeFoldsStalled",
    "the share that holds the base does not answer while a contribution waits",
    beside={"MergenodeLoopStalled": "a fold that hangs for an hour gave no sign of life for a quarter of it"},
    root=True,
)
def folds_stalled(stage: Stage) -> Iterator[Fault]:
    node = stage.node()
    node.honest(1)
    with silent_share(node.real.base):
        node.put("waits", node.tuned(2))
        yield Fault(node)
    node.until("folded 'waits'")


@provokes("MergenodeRetrying", "the directory of running folds cannot be written", root=True)
def retrying(stage: Stage) -> Iterator[Fault]:
    node = stage.node()
    node.honest(1)
    folding = node.real.state / "folding"
    folding.mkdir(exist_ok=True)
    with read_only(folding):
        node.put("waits", node.tuned(2))
        yield Fault(node, {"PATH": node.real.inbox / "waits"}, told=("write_failed",))
    node.until("folded 'waits'")


@provokes("MergenodePublishFailing", "the directory of published versions cannot be written", root=True)
def publish_failing(stage: Stage) -> Iterator[Fault]:
    node = stage.node(task=write(stage.root / "plugin"))
    node.honest(1)
    with read_only(node.real.published):
        node.put("waits", node.tuned(2))
        yield Fault(node)
    node.until("is visible at")


@provokes("MergenodeRejected", "a contribution has a tensor of another shape")
def rejected(stage: Stage) -> Iterator[Fault]:
    node = stage.node()
    node.honest(1)
    bad = node.tuned(2)
    bad[next(iter(bad))] = torch.zeros(4, 4)
    node.put("broken", bad)
    yield Fault(node, {"NAME": "broken", "PATH": node.real.inbox / "broken"}, told=("inbox",))


@provokes(
    "MergenodeQuarantined",
    "two contributions are three times as large as usual, and the gate holds them back",
    beside={
        "MergenodeRejected": "what the operator drops counts as rejected",
        "MergenodeGateSpoke": "what is released is folded although a gate spoke against it",
    },
)
def quarantined(stage: Stage) -> Iterator[Fault]:
    node = stage.node(gates=GATES)
    node.honest(3)
    for seed, name in ((11, "dropped"), (12, "released")):
        node.put(name, node.tuned(seed, 0.03))
        node.until(name)
    yield Fault(
        node,
        {"NAME": "dropped"},
        others={"quarantine release": {"NAME": "released"}},
    )
    node.until("folded 'released'")


@provokes("MergenodeUnsettled", "of an upload one shard has not come")
def unsettled(stage: Stage) -> Iterator[Fault]:
    registry = {"url": "./inbox", "settle_seconds": 3600, "settle_polls": 1, "poll_seconds": 0.1}
    node = stage.node(registries=[registry])
    whole = write_sharded(stage.root / "whole", node.tuned(1))
    late = next(whole.glob("model-00002*"))
    hidden = late.rename(stage.root / late.name)
    upload = whole.rename(node.real.inbox / "upload")
    yield Fault(node, {"PATH": upload}, told=("inbox",), meanwhile=lambda: hidden.rename(upload / hidden.name))
    node.until("folded 'upload'")
