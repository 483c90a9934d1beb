"""A few random schedules with real files and the real engine: nodes that heard the same publish the same bytes."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from mergenode.errors import RejectReason
from tests.support.checkpoints import write_single
from tests.support.united_nodes import UnitedNode, assert_same_model, moved, settle, small_base

SCHEDULES = 10
METHODS: dict[str, dict[str, Any]] = {"iso": {"name": "iso"}, "aswudi": {"name": "aswudi"}}


class Killed(BaseException):
    """The process dies here."""


class Killing:
    """Counts syncs of files and directories, which stand beside every durable step, and dies at one of them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count, self.at = 0, 0
        self._sync = os.fsync
        patch.setattr(os, "fsync", self._fsync)

    def _fsync(self, fd: int) -> None:
        self.count += 1
        if self.count == self.at:
            raise Killed
        self._sync(fd)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_a_random_schedule(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, method: str, seed: int) -> None:
    draw = random.Random(1000 * seed + len(method))
    killing = Killing(monkeypatch)
    base = small_base(whole=False)
    nodes = [UnitedNode(tmp_path / f"n{n}", n, base, {"method": METHODS[method]}) for n in range(3)]
    up: set[int] = set()

    def during(node: UnitedNode, *, kill: bool) -> None:
        killing.at = killing.count + draw.randint(1, 40) if kill else 0
        try:
            if node.number not in up:
                node.start()
                up.add(node.number)
            node.rest()
        except Killed:
            up.discard(node.number)
            node.stop()
        killing.at = 0

    for step in range(7):
        node = draw.choice(nodes)
        if draw.random() < 0.75:
            number = draw.randrange(4)
            write_single(node.real.root / "staged", moved(base, number, whole=False))
            place = node.real.inbox / f"m{number}-{step}"
            (node.real.root / "staged").rename(place)
        elif node.number in up:
            shown = [fact.name for _, fact in node.union.united.ledger.members()]
            if shown:
                node.retract(draw.choice(shown))
        during(node, kill=draw.random() < 0.5)
        if draw.random() < 0.6:
            source, target = draw.sample(nodes, 2)
            source.exchange.send(target.exchange)
    for node in nodes:
        if node.number not in up:
            during(node, kill=False)
    settle(*nodes)

    if all(node.union.united.ledger.head().count == 0 for node in nodes):
        # What they published is the base, where they published anything at all before everything was taken out.
        nodes = [node for node in nodes if node.union.united.ledger.versions()]
        assert all(node.manifest["lineage"] is None for node in nodes)
    if not nodes:
        return
    assert_same_model(*nodes)
    out = {fact.content for node in nodes for fact in node.real.facts("ruled") if fact.number % 2}  # type: ignore[attr-defined]  # of that kind
    found = {entry["content"] for entry in nodes[0].manifest["contributions"]}
    held = [fact.content for node in nodes for _, fact in node.union.own.ledger.members()]
    assert found == set(held) and len(held) == len(found)
    assert not found & out
    reasons = {fact.reason for node in nodes for fact in node.real.facts("rejected")}  # type: ignore[attr-defined]  # of that kind
    assert reasons <= {RejectReason.RETRACTED.value}
    for node in nodes:
        assert not node.exchange.accused
        assert node.real.problems() == [] and node.union.united.ledger.verify() == []
        node.stop()
