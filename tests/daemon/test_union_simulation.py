"""Five nodes in random schedules of everything that goes wrong: after healing, all of them publish one union.

A schedule follows from its seed. The oracle is one node that folded everything: what any node accepted and no newest
ruling takes out, each content once, with the weight of the node by which it counts. Sums of whole numbers are exact,
so the digests have to be equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

import mergenode.daemon.union as union_module
from mergenode.ledger.records import Fact
from mergenode.ledger.union import Duties, Selection, Union
from tests.support.quick_ledger import QuickLedger
from tests.support.union_world import NODES, World

SCHEDULES = 2000
BATCHES = 20
LEAST_PER_SCHEDULE = {
    "offered": 6, "retraction asked": 1.7, "asked for again": 1.1, "partition": 1, "restart": 0.3, "crash": 2.5,
    "lost": 12, "repeated": 3, "out of order": 2, "cut off": 6, "folded": 5, "retracted": 0.6, "yielded": 0.8,
    "deferred": 0.45, "ruled": 7,
}  # fmt: skip
"""Faults and facts per schedule, on average over a batch: with fewer the schedules would prove little. They follow from
the seeds; figures are about four fifths of what there is in all 2,000."""


def live_and_heal(seed: int, **how: Any) -> World:
    world = World(seed, **how)
    try:
        world.live()
        world.heal()
        world.check()
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise
    return world


@pytest.mark.parametrize("batch", range(BATCHES))
def test_after_healing_all_publish_what_one_node_would(batch: int) -> None:
    count = SCHEDULES // BATCHES
    faults: Counter[str] = Counter()
    for seed in range(batch * count, (batch + 1) * count):
        faults += live_and_heal(seed).faults
    for what, least in LEAST_PER_SCHEDULE.items():
        assert faults[what] >= least * count, f"only {faults[what]} of {what!r}"


def test_files_that_get_lost_cost_what_they_held_and_no_agreement() -> None:
    faults: Counter[str] = Counter()
    for seed in range(5000, 5100):
        faults += live_and_heal(seed, lossy_files=True).faults
    assert faults["file lost"] > 20


def test_the_part_of_a_node_that_is_gone_counts_until_it_is_forgotten() -> None:
    """What it alone had leaves the union then; what others could fold too is folded by one of them."""
    taken_back = 0
    for seed in range(6000, 6100):
        world = World(seed)
        world.live()
        before = sum(node.disk.own.counts().get("folded", 0) for node in world.nodes)
        world.heal(dead=seed % NODES)
        world.check()
        taken_back += sum(node.disk.own.counts().get("folded", 0) for node in world.nodes) - before
    assert taken_back > 10


def test_the_same_seed_is_the_same_schedule() -> None:
    one, other = (live_and_heal(77) for _ in range(2))
    assert one.faults == other.faults
    assert [node.value for node in one.nodes] == [node.value for node in other.nodes]


# ---- rules that are broken on purpose have to show


def whatever_came_last(left: Union, right: Union) -> Union:
    return replace(union_module_joined(left, right), parts={**left.parts, **right.parts})


union_module_joined = union_module.joined


def no_yields(*args: Any, **how: Any) -> Duties:
    return replace(duties_of(*args, **how), yields=())


duties_of = union_module.duties


def all_parts(state: Union, *, idempotent: bool) -> Selection:
    parts = tuple(state.parts[node] for node in sorted(state.parts) if state.parts[node].entries)
    return Selection(parts, {content: part for part in parts for content in part.entries})


def without_rulings(self: QuickLedger, *, kinds: Sequence[str] = (), **how: Any) -> Sequence[tuple[int, Fact]]:
    return facts_of(self, kinds=[kind for kind in kinds if kind != "ruled"] or ["none"], **how)


facts_of = QuickLedger.facts


def never(*args: Any) -> bool:
    return False


BROKEN: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "an old part takes the place of a newer one": lambda patch: (
        patch.setattr(union_module, "joined", whatever_came_last),
        patch.setattr(union_module.UnionMixing, "_is_news", _differs),
    )[0],
    "what two nodes folded counts twice": lambda patch: (
        patch.setattr(union_module, "duties", no_yields),
        patch.setattr(union_module, "select", all_parts),
    )[0],
    "nobody gives way": lambda patch: patch.setattr(union_module, "duties", no_yields),
    "a crash loses rulings": lambda patch: patch.setattr(QuickLedger, "facts", without_rulings),
}


def _differs(self: union_module.UnionMixing, node: str, found: Any) -> bool:
    known = self.others.parts.get(node)
    return known is None or known.position != found.head.position


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_shows(monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    BROKEN[rule](monkeypatch)
    with pytest.raises(BaseException):  # noqa: B017 - whatever it breaks
        for seed in range(150):
            live_and_heal(seed)
