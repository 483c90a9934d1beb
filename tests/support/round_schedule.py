"""A seeded schedule of what goes wrong between nodes that train and mix, in virtual time, and what came of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import torch
from torch import Tensor

from mergenode.ledger.round_state import Phase
from mergenode.wire.heads import Head
from tests.support.round_exchange import retold
from tests.support.round_world import Peer, Step

Lie = Callable[[Tensor, random.Random], Tensor]

LIES: dict[str, Lie] = {
    "sign": lambda model, chance: -model,
    "large": lambda model, chance: 20.0 * model,
    "nan": lambda model, chance: torch.full_like(model, float("nan")),
    "noise": lambda model, chance: model + torch.randn(
        model.shape, generator=torch.Generator().manual_seed(chance.randrange(1 << 30)), dtype=model.dtype
    ) * 5.0,
}  # fmt: skip


def towards(target: Tensor, rate: float) -> Step:
    """A training that goes a part of the way to where its data wants it."""
    return lambda model, epoch: model + rate * (target - model)


@dataclass
class Schedule:
    """Runs ``peers`` until ``rounds`` are done. ``slow``: peers whose training takes ten times as long.

    ``faults``: how often each kind of fault happened. ``waits``: the longest wait in the collect phase.
    """

    peers: Sequence[Peer]
    chance: random.Random
    slow: frozenset[int] = frozenset()
    liar: int | None = None
    lie: str = "sign"
    faults: Counter[str] = field(default_factory=Counter)
    waits: float = 0.0
    _busy: dict[int, float] = field(default_factory=dict)
    _since: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.wires, self.clock = self.peers[0].wires, self.peers[0].clock
        self.wires.delay = lambda sender, receiver: self.chance.uniform(0.0, 5.0)
        self.wires.tamper = self._tamper

    def _tamper(self, sender: UUID, receiver: UUID, head: Head, path: Path) -> tuple[Head, Path] | None:
        if self.chance.random() < 0.03:
            self.faults["lost"] += 1
            return None
        if self.liar is None or sender != self.peers[self.liar].id:
            return head, path
        self.faults[f"lie {self.lie}"] += 1
        files = self.peers[0].files
        place = Path(f"/lies/{sum(self.faults.values())}")
        files[place] = LIES[self.lie](files[path], self.chance)
        if self.chance.random() < 0.2:
            self.faults["lie epoch"] += 1
            head = retold(head, epoch=head.epoch + self.chance.choice([5, 50, 10**9]))
        return head, place

    def run(self, rounds: int, *, faulty: bool) -> None:
        """Until every peer that is up has done so many rounds more."""
        goal = {peer.number: self._done(peer) + rounds for peer in self.peers}
        for _ in range(200_000):
            waiting = [peer for peer in self.peers if not peer.up or self._done(peer) < goal[peer.number]]
            if not waiting and not any(self._done(peer) < goal[peer.number] for peer in self.peers if peer.up):
                return
            if faulty and self.chance.random() < 0.06:
                self._fault()
            self._turn()
        raise AssertionError([(peer.up, peer.state.number, peer.state.phase) for peer in self.peers])

    def _done(self, peer: Peer) -> int:
        return peer.state.number

    def _turn(self) -> None:
        """Everybody that is due does one thing; if nobody is, time passes until somebody is."""
        now = self.clock.monotonic()
        soonest = now + 30.0
        moved = False
        for peer in self.peers:
            if not peer.up:
                continue
            due = self._busy.get(peer.number, now)
            if due > now:
                soonest = min(soonest, due)
                continue
            seconds = self._step(peer, now)
            moved = moved or not seconds
            if seconds:
                soonest = min(soonest, now + seconds)
        if not moved:
            arrivals = [item[0] for item in self.wires.under_way]
            self.clock.advance(max(1e-3, min([soonest, *arrivals]) - now))

    def _step(self, peer: Peer, now: float) -> float:
        phase = peer.state.phase
        seconds = peer.rounds.step()
        if phase is Phase.COLLECT:
            since = self._since.setdefault(peer.number, now)
            self.waits = max(self.waits, now - since)
        if peer.state.phase is not Phase.COLLECT:
            self._since.pop(peer.number, None)
        if peer.state.phase is Phase.TRAIN and phase is not Phase.TRAIN:
            self._busy[peer.number] = now + self._training(peer)
        return seconds

    def _training(self, peer: Peer) -> float:
        if peer.number in self.slow:
            self.faults["straggle"] += 1
            return 10 * self.chance.uniform(5.0, 20.0)
        return self.chance.uniform(5.0, 20.0)

    def _fault(self) -> None:
        kind = self.chance.choice(["crash", "restart", "partition", "heal", "diverge"])
        up, down = [p for p in self.peers if p.up], [p for p in self.peers if not p.up]
        if kind == "crash" and len(up) > 2:
            peer = self.chance.choice(up)
            peer.die()
            self._since.pop(peer.number, None)
        elif kind == "restart" and down:
            self._restart(self.chance.choice(down))
        elif kind == "partition" and not self.wires.cut:
            self.split(self.chance.sample(range(len(self.peers)), 2))
        elif kind == "heal" and self.wires.cut:
            self.wires.heal()
        elif kind == "diverge" and up:
            self.chance.choice(up).trainer.fails += 1
        else:
            return
        self.faults[kind] += 1

    def split(self, side: Sequence[int]) -> None:
        """Nothing passes between these peers and the others."""
        one = {self.peers[number].id for number in side}
        others = {peer.id for peer in self.peers} - one
        self.wires.cut = {frozenset((a, b)) for a in one for b in others}

    def mend(self) -> None:
        """All are up and reach each other."""
        for peer in self.peers:
            if not peer.up:
                self._restart(peer)
        self.wires.heal()

    def _restart(self, peer: Peer) -> None:
        peer.boot()
        self._since.pop(peer.number, None)
        self._busy[peer.number] = self.clock.monotonic()
        self.wires.resend()
