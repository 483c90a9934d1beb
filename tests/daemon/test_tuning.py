"""Settings change between two actions, and for everything that works by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mergenode.daemon.circle import Circle
from mergenode.daemon.rounds import Rounds
from mergenode.daemon.tuning import Tuned
from mergenode.ledger.actions import Stop
from mergenode.ledger.records import Pruned
from mergenode.ledger.round_state import Phase
from mergenode.ledger.view import Policy
from mergenode.ports.gatekeeper import OPEN
from tests.support.checkpoints import base_tensors
from tests.support.fake_node import FakeNode
from tests.support.united_nodes import UnitedNode


def tuned(**changes: object) -> Tuned:
    return replace(Tuned(policy=Policy(), keep=5, max_relative_norm=0.95, gatekeeper=OPEN), **changes)


def test_settings_are_taken_over_between_two_actions() -> None:
    """After the first version: one version for two contributions, only the newest kept."""
    node = FakeNode()
    loop = node.start()
    changes: list[Tuned | None] = []
    loop.tuning = lambda: changes.pop() if changes else None
    node.put("a")
    node.drain(loop)
    changes.append(tuned(policy=Policy(publish_every_contributions=2), keep=1))
    loop.tune()
    node.put("b")
    node.put("c")
    node.drain(loop)
    assert node.published == [(1, 1), (2, 3)]
    assert [fact.versions for fact in node.facts("pruned") if isinstance(fact, Pruned)] == [(1,)]
    changes.append(tuned())
    loop.tune()
    node.put("d")
    node.drain(loop)
    assert node.published[2:] == [(3, 4)]


def test_a_contribution_is_judged_by_the_settings_of_its_start() -> None:
    """The next one by those of its own."""
    node = FakeNode()
    loop = node.start()
    loop.tuning = lambda: tuned(max_relative_norm=-1.0)
    node.put("a")
    node.drain(loop)
    loop.tune()
    node.put("b")
    node.drain(loop)
    assert node.folded == ["a"] and node.rejected == {"b": "other_base"}


def test_the_loop_asks_before_every_action_and_keeps_who_publishes() -> None:
    node = FakeNode()
    node.once = True
    loop = node.start()
    loop.policy = replace(loop.policy, publishes=False)
    asked: list[int] = []
    loop.tuning = lambda: asked.append(1) or tuned(keep=2)  # type: ignore[func-returns-value]  # counts
    node.put("a")
    assert isinstance(loop.run(), Stop)
    assert len(asked) >= 3 and loop.line.keep == 2 and not loop.policy.publishes


def test_a_node_that_mixes_in_rounds_takes_settings_over_between_two_phases() -> None:
    node = FakeNode()
    nothing: Any = None
    circle = Circle(line=node.line(), exchange=nothing, store=nothing, models=nothing)
    resting: Any = SimpleNamespace(phase=Phase.REST, number=3)
    rounds = Rounds(circle=circle, state=resting, lifecycle=node.lifecycle, jitter=lambda: 0.0)
    rounds.tuning = lambda: tuned(keep=1)
    node.lifecycle.request_stop()
    assert rounds.run().complete
    assert rounds.circle.line.keep == 1


def test_in_a_union_both_lines_change_and_nothing_else_of_them(tmp_path: Path) -> None:
    united = UnitedNode(tmp_path, 1, base_tensors(), {"method": {"name": "iso"}})
    united.start()
    own, sum_of_all = united.union.own, united.union.united
    united.loop.tuning = lambda: tuned(keep=1, gatekeeper=own.gatekeeper, policy=Policy(poll_seconds=3.0))
    united.loop.tune()
    assert united.union.own == replace(own, keep=1) and united.union.united == replace(sum_of_all, keep=1)
    assert united.union.own.elsewhere is united.union
    assert united.union.policy.poll_seconds == united.loop.policy.poll_seconds == 3.0
    assert united.union.policy.publishes and not united.loop.policy.publishes
    united.stop()
