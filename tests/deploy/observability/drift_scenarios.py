"""Contributions that harm the merge, each in its own way. Usual ones have a hundredth of the norm of the base."""

from __future__ import annotations

import json
from collections.abc import Iterator

import torch

from tests.deploy.observability.scenario import Fault, provokes
from tests.deploy.observability.stage import GROUPS, PLAIN, Node, Stage
from tests.support.checkpoints import Tensors, write_single

NEWEST = "`mergenode show --generation "
"""With the number of the fold: it names the contribution."""


def staged(stage: Stage, node: Node, seed: int, size: float = 0.01) -> dict[str, object]:
    """A checkpoint that is not in the registry yet, for ``mergenode commit``; and a pattern of layers."""
    return {"PATH": write_single(stage.root / "at-the-team", node.tuned(seed, size)), "PATTERN": "*.layers.0.*"}


def versions(node: Node) -> tuple[int, int]:
    """The newest two."""
    first, second = sorted(int(path.name[1:]) for path in node.real.published.glob("v0*"))[-2:]
    return first, second


@provokes("MergenodeDriftPerDay", "eleven contributions in a row move the merge by 0.07 norms of the base each")
def drift_per_day(stage: Stage) -> Iterator[Fault]:
    node = stage.node()
    for seed in range(1, 12):
        node.fold(f"far-{seed}", node.tuned(seed, 0.07))
        if "MergenodeDriftPerDay" in stage.watcher.firing(node.instance):
            break
    first, second = versions(node)
    yield Fault(node, {"NAME": "far-1", "FIRST": first, "SECOND": second}, told=("model.layers.",))


@provokes("MergenodeDriftPerFold", "two contributions move the merge by 0.14 norms of the base each")
def drift_per_fold(stage: Stage) -> Iterator[Fault]:
    node = stage.node()
    node.fold("hot-1", node.tuned(1, 0.14))
    node.fold("hot-2", node.tuned(2, 0.14))
    places = staged(stage, node, 3)
    yield Fault(node, places)
    node.put("cool", node.tuned(4))
    node.published()


@provokes("MergenodeDriftJump", "ten contributions of no unusual size come at once and get into one version")
def drift_jump(stage: Stage) -> Iterator[Fault]:
    node = stage.node(publish={"path": "./published", "every": {"contributions": None, "seconds": 3.0}})
    for seed in (1, 2):
        node.fold(f"honest-{seed}", node.tuned(seed, 0.004))
    node.learnt(25)
    for seed in range(11, 21):
        node.put(f"burst-{seed}", node.tuned(seed, 0.0075))
    node.published()
    first, second = versions(node)
    yield Fault(
        node,
        {"NAME": "burst-20", "FIRST": first, "SECOND": second, "VERSION": first},
        others={"retract": {"NAME": "honest-1"}},
        told=(NEWEST,),
    )


@provokes("MergenodeContributionHuge", "a contribution is seven times as large as usual, and the gate is off")
def contribution_huge(stage: Stage) -> Iterator[Fault]:
    """Versions are held: the alert comes, and the runbook takes it out, before there is a version with it."""
    node = stage.node(gates={"norm": {"action": "off"}})
    node.honest(5)
    node.configure(publish={"path": "./published", "hold_seconds": 60.0})
    node.until("settings in force now: publish.hold_seconds")
    node.learnt(25)
    node.put("large", node.tuned(9, 0.07))
    node.until("folded 'large'")

    def is_held() -> None:
        assert node.value("mergenode_version") == 5 and node.value("mergenode_newest_fold_generation") == 6
        assert not (node.real.published / "v000006").exists()

    yield Fault(node, {"NAME": "large", **staged(stage, node, 10)}, told=(NEWEST, "model.layers."), meanwhile=is_held)
    node.published()
    assert sorted(path.name for path in node.real.published.glob("v0*"))[-1] == "v000006"
    told = json.loads((node.real.published / "v000006/mergenode.json").read_text())
    assert [each["name"] for each in told["contributions"]] == [f"honest-{seed}" for seed in range(1, 6)]


@provokes("MergenodeShareKeptCollapsed", "a contribution repeats what is in a merge of orthogonal parts already")
def share_kept_collapsed(stage: Stage) -> Iterator[Fault]:
    node = stage.node(method={"name": "opcm", "alpha": 0.99})
    for seed in range(1, 5):
        node.fold(f"honest-{seed}", narrow(node, seed))
    node.learnt(25)
    node.fold("repeats", narrow(node, 4, 0.011))
    yield Fault(node, {"NAME": "repeats"}, told=("model.layers.", NEWEST))
    node.fold("honest-5", narrow(node, 5))


def narrow(node: Node, seed: int, size: float = 0.01) -> Tensors:
    """A fine-tune of rank two, as adapters are."""
    tuned = {}
    for number, (name, tensor) in enumerate(node.base.items()):
        draw = torch.Generator().manual_seed(1000 * seed + number)
        rows, columns = torch.randn(32, 2, generator=draw), torch.randn(2, 32, generator=draw)
        delta = rows @ columns
        tuned[name] = tensor + size * tensor.norm() * delta / delta.norm()
    return tuned


@provokes(
    "MergenodeNewcomerAgainstMerge", "a contribution undoes what the ones before have in common",
    beside={"MergenodeGateSpoke": "the gate that looks at the cosine says the same"},
)  # fmt: skip
def newcomer_against_merge(stage: Stage) -> Iterator[Fault]:
    node = stage.node()
    node.honest(3, along=0.8)
    node.fold("opposed", node.tuned(9, along=-0.9))
    yield Fault(node, {"NAME": "opposed"}, told=("model.layers.", NEWEST))
    node.fold("agrees", node.tuned(10, along=0.8))


@provokes("MergenodeLayersAgainstMerge", "a contribution agrees with the merge, but for one layer that undoes it")
def layers_against_merge(stage: Stage) -> Iterator[Fault]:
    node = stage.node()
    node.honest(3, along=0.8)
    node.fold("mixed", node.tuned(9, along=0.9, layers={0: -1.0}))
    yield Fault(node, {"NAME": "mixed", **staged(stage, node, 11)}, told=("model.layers.0 (-", NEWEST))
    node.fold("agrees", node.tuned(10, along=0.8))


@provokes("MergenodeGateSpoke", "a contribution is three times as large as usual, and the gate only observes")
def gate_spoke(stage: Stage) -> Iterator[Fault]:
    node = stage.node(gates={"norm": {"action": "observe", "max_ratio": 2.0, "max_group_ratio": None}})
    node.honest(5)
    node.fold("large", node.tuned(9, 0.03))
    yield Fault(node, {"NAME": "large"}, told=("gate norm", "model.layers.", NEWEST))


@provokes("MergenodeNewcomersShift", "each contribution is a twelfth larger than the one before")
def newcomers_shift(stage: Stage) -> Iterator[Fault]:
    node = stage.node()
    node.honest(8, size=0.005)
    for step in range(1, 13):
        node.fold(f"grown-{step}", node.tuned(20 + step, 0.005 * 1.08**step))
        if "MergenodeNewcomersShift" in stage.watcher.firing(node.instance):
            break
    first, second = versions(node)
    yield Fault(node, {"FIRST": first, "SECOND": second, "VERSION": first}, told=("model.layers.", NEWEST))
    for seed in range(41, 46):
        node.fold(f"usual-{seed}", node.tuned(seed, 0.005))


@provokes("MergenodeLayersApart", "three contributions change hardly anything but one layer, and that a lot")
def layers_apart(stage: Stage) -> Iterator[Fault]:
    node = stage.node(gates={"norm": {"action": "off"}})
    node.honest(4)
    node.learnt(65)  # there is a day before
    odd = {layer: 6.5 if layer == 0 else 0.1 for layer in range(GROUPS)}
    for number in (1, 2, 3):
        node.fold(f"one-layer-{number}", node.tuned(10 + number, along=0.9, layers=odd))
    yield Fault(node, {"NAME": "one-layer-1", "FIRST": 4, "SECOND": 7}, told=("model.layers.0",))
    for number in (1, 2, 3):
        node.command("retract", f"one-layer-{number}", "--why", "one layer only")
        node.published()


@provokes("MergenodeScaleOffReference", "the settings publish five times the update")
def scale_off_reference(stage: Stage) -> Iterator[Fault]:
    node = stage.node(method={**PLAIN, "scale": 5.0})
    node.honest(2)
    yield Fault(node)
    stage.watcher.forget(node.instance)  # while it is rebuilt
    node.stop()
    node.configure(
        method={**PLAIN, "scale": "norm_match"},
        node={"name": "lone", "state": "./new-state"},
        publish={"path": "./new-published"},
    )
    node.start()
    node.published()
