"""Killed before or after every durable operation, or refused by a full disk there, a round ends as if nothing was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mergenode.daemon.circle import MixPolicy
from mergenode.errors import TransientError, TransientReason
from mergenode.ledger.records import Fact, Published
from mergenode.ledger.round_state import Phase
from mergenode.mixers.rounds import RoundRules
from mergenode.mixers.topology import ring
from tests.support.fake_ports import Crash
from tests.support.round_schedule import towards
from tests.support.round_world import Peer, in_turn, peers_on

ROUNDS = 2


def world() -> list[Peer]:
    generator = torch.Generator().manual_seed(1)
    starts = [torch.randn(4, generator=generator, dtype=torch.float64) for _ in range(3)]
    peers = peers_on(
        ring(3), starts, lambda number: towards(starts[number] + 1, 0.5),
        rules=RoundRules(synchronous=True, staleness=0), policy=MixPolicy(rounds=ROUNDS),
    )  # fmt: skip
    for peer, start in zip(peers, starts, strict=True):
        peer.boot(start)
    return peers


def until_rest(peers: list[Peer], on_crash: Callable[[Peer], None] = lambda peer: None) -> None:
    for _ in range(2000):
        busy = [peer for peer in peers if peer.state.phase is not Phase.REST]
        if not busy:
            return
        waits = []
        for peer in busy:
            try:
                waits.append(peer.rounds.step())
            except Crash:
                on_crash(peer)
                waits.append(0.0)
        if all(waits):
            peers[0].clock.advance(min(waits))
    raise AssertionError([(peer.state.number, peer.state.phase) for peer in peers])


def told(peer: Peer) -> list[Fact]:
    """What was recorded, without durations and times."""
    facts = [fact for _, fact in peer.ledger.facts(kinds=["mixed", "published"])]
    return [
        (type(f).__name__, f.number, f.epoch, f.content, f.root, f.parents)
        if not isinstance(f, Published)
        else ("Published", f.version, f.round, f.digest)
        for f in facts
    ]  # type: ignore[misc]  # tuples stand for facts


def undisturbed() -> tuple[list[list[Fact]], list[str]]:
    peers = world()
    before = len(peers[1].trouble.asked)
    until_rest(peers)
    return [told(peer) for peer in peers], peers[1].trouble.asked[before:]


WANTED, OPERATIONS = undisturbed()


def test_there_are_operations_to_be_killed_at() -> None:
    kinds = {name.removesuffix(" done") for name in OPERATIONS}
    assert kinds >= {"save", "install", "append", "stage", "rename", "latest", "mix", "train", "prune"}
    assert len(OPERATIONS) > 80


@pytest.mark.parametrize("count", range(1, len(OPERATIONS) + 1))
def test_killed_at_any_step_the_same_heads_give_the_same_models(count: int) -> None:
    peers = world()
    victim, asked, crashes = peers[1], 0, 0

    def any_operation(name: str) -> BaseException | None:
        nonlocal asked
        asked += 1
        return Crash() if asked == count else None

    def again(peer: Peer) -> None:
        nonlocal crashes
        crashes += 1
        peer.die()
        peer.boot()
        peer.wires.resend()

    victim.trouble.any = any_operation
    until_rest(peers, again)
    assert crashes == 1
    assert [told(peer) for peer in peers] == WANTED
    assert victim.disk.latest == max(victim.disk.versions)


@pytest.mark.parametrize("kind", ["save", "install", "append", "stage", "rename", "latest"])
def test_a_full_disk_is_tried_again(kind: str) -> None:
    peers = world()
    full = TransientError(TransientReason.DISK_FULL, "/state: no space left")
    peers[1].trouble.plan(kind, full, full)
    until_rest(peers)
    assert [told(peer) for peer in peers] == WANTED
    assert [reason for _, reason, _ in peers[1].witness.retries] == ["disk_full"] * 2


def test_training_that_fails_leaves_the_model_as_it_was() -> None:
    peers = world()
    peers[1].trainer.fails = 1
    start = peers[1].model.clone()
    while peers[1].state.phase is Phase.TRAIN:
        peers[1].rounds.step()
    assert torch.equal(peers[1].files[peers[1].store.path(peers[1].state.trained)], start)
    in_turn(peers, 1)
    fact = peers[1].mixes[0]
    assert "diverged" in fact.training_failed and fact.update == 0.0 and len(fact.parents) == 2


def test_at_rest_a_node_serves_its_last_model_and_goes_on_when_more_is_asked_for() -> None:
    peers = world()
    until_rest(peers)
    last = peers[0].wires.newest[peers[0].id][0]
    assert last.epoch == ROUNDS and last.root == peers[0].wires.root_of(peers[0].store.path(peers[0].state.start))
    for peer in peers:
        peer.policy = MixPolicy(rounds=ROUNDS + 1)
        peer.die()
    for peer in peers:
        peer.boot()
    peers[0].wires.resend()
    for peer in peers:
        peer.rounds.step()
    until_rest(peers)
    assert [len(peer.mixes) for peer in peers] == [ROUNDS + 1] * 3
