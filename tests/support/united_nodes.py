"""Real nodes of a union on real files, in one process: local engine, ledgers, loop; only the network is by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import torch
from torch import Tensor

from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.store.change_requests import FolderChangeRequests
from mergenode.bootstrap.node import registries_of
from mergenode.bootstrap.parts import build_parts, open_state
from mergenode.bootstrap.policy import policy_of
from mergenode.bootstrap.union import open_union
from mergenode.daemon.loop import Loop
from mergenode.daemon.union import UnionMixing
from mergenode.ledger.actions import Action, Stop, Wait
from mergenode.ledger.changes import Change
from mergenode.settings import load_settings
from tests.support.checkpoints import Tensors
from tests.support.clock import FakeClock
from tests.support.fake_node import HandLifecycle
from tests.support.local_node import load_model, same_bits
from tests.support.part_exchange import PartExchange
from tests.support.real_node import RealNode


@dataclass
class UnitedNode:
    """One node; ``start`` and ``stop`` begin and end a process. ``tensors``: of the base, the same for all."""

    root: Path
    number: int
    tensors: Mapping[str, Tensor]
    settings: Mapping[str, Any]
    clock: FakeClock = field(default_factory=FakeClock)
    observer: FanOut = field(default_factory=lambda: FanOut([]))

    def __post_init__(self) -> None:
        publish = {"path": "./published", "every": {"contributions": 1}}
        sections = {"mixer": {"name": "union"}, "publish": publish, **self.settings}
        self.real = RealNode(self.root, tensors=dict(self.tensors), **sections)
        self.exchange = PartExchange(self.root / "exchange", UUID(int=self.number + 1), 0)
        self.stack = ExitStack()

    def start(self) -> None:
        settings = load_settings(self.real.config)
        self.exchange = self.exchange.again()
        lifecycle = HandLifecycle(self.clock)
        self.ledger = self.stack.enter_context(open_state(settings))
        parts = build_parts(settings, self.ledger, self.observer, lifecycle, self.clock)
        self.union: UnionMixing = self.stack.enter_context(
            open_union(settings, parts, self.exchange, policy_of(settings))
        )
        registries = registries_of(settings, self.clock)
        for registry in registries.values():
            self.stack.callback(registry.close)
        self.loop = Loop(
            line=self.union.own,
            mixing=self.union,
            registries=registries,
            changes=FolderChangeRequests(settings.node.state),
            policy=replace(policy_of(settings), publishes=False),
            lifecycle=lifecycle,
            jitter=lambda: 0.0,
        )

    def stop(self) -> None:
        self.stack.close()

    def rest(self, most: int = 200, before: Callable[[Action], object] = lambda action: None) -> int:
        """Act until the loop only waits; how many actions that took."""
        self.loop.act(Wait(0.05, "poked"))
        for done in range(most):
            action = self.loop.decide()
            if isinstance(action, Wait | Stop):
                return done
            before(action)
            self.loop.act(action)
        raise AssertionError("the loop does not come to rest")

    def retract(self, name: str, why: str = "asked") -> None:
        contents = [fact.content for _, fact in self.union.united.ledger.members() if fact.name == name]
        self.loop.changes.submit(Change("", tuple(contents), why=why), self.clock)  # type: ignore[attr-defined]  # a folder

    @property
    def manifest(self) -> Mapping[str, Any]:
        return self.real.manifest()

    def published(self) -> dict[str, Tensor]:
        return load_model(self.real.published / "latest")


def settle(*nodes: UnitedNode, rounds: int = 12) -> None:
    """Act and tell each other until nobody has anything to do."""
    for _ in range(rounds):
        done = sum([node.rest() for node in nodes])
        before = [dict(node.exchange.here) for node in nodes]
        for node in nodes:
            node.exchange.send(*(other.exchange for other in nodes if other is not node))
        if not done and before == [dict(node.exchange.here) for node in nodes]:
            return
        for node in nodes:
            node.clock.advance(31.0)
    raise AssertionError("the nodes do not come to rest")


def small_base(*, whole: bool) -> Tensors:
    draw = torch.Generator().manual_seed(3)
    if whole:
        return {"a.weight": torch.randint(-50, 50, (6, 4), generator=draw).float(), "b": torch.arange(5.0)}
    return {"a.weight": torch.randn(24, 16, generator=draw), "b": torch.randn(9, generator=draw)}


def moved(base: Tensors, seed: int, *, whole: bool) -> Tensors:
    draw = torch.Generator().manual_seed(100 + seed)
    if whole:
        return {name: t + torch.randint(-2, 3, t.shape, generator=draw) for name, t in base.items()}
    return {name: t + 0.05 * torch.randn(t.shape, generator=draw) for name, t in base.items()}


def assert_same_model(*nodes: UnitedNode) -> None:
    first = nodes[0].published()
    for node in nodes[1:]:
        there = node.published()
        assert there.keys() == first.keys()
        assert all(same_bits(first[name], there[name]) for name in first)
        for key in ("model", "lineage", "contributions", "parts", "count", "tensors", "statistics"):
            assert node.manifest[key] == nodes[0].manifest[key], key
