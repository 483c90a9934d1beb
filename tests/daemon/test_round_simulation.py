"""Rounds under crashes, partitions, stragglers, losses and liars: hundreds of seeded schedules in virtual time."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from torch import Tensor

from mergenode.daemon.circle import MixPolicy
from mergenode.mixers.rounds import JUMP, RoundRules
from mergenode.mixers.topology import Topology, full, ring
from tests.support.facts import initialised
from tests.support.round_schedule import LIES, Schedule, towards
from tests.support.round_world import NEVER_PUBLISH, Peer, RoundLedger, distance_of, in_turn, peers_on

RATE, SIZE = 0.1, 8
RULES = RoundRules(shortest=10.0, longest=120.0)


def world(
    topology: Topology, chance: random.Random, policy: MixPolicy | None = None, rules: RoundRules = RULES
) -> tuple[list[Peer], list[Tensor]]:
    """Peers whose data wants them at different places around a common one, which is far from nothing."""
    generator = torch.Generator().manual_seed(chance.randrange(1 << 30))
    common = torch.full((SIZE,), 30.0, dtype=torch.float64)
    targets = [common + torch.randn(SIZE, generator=generator, dtype=torch.float64) for _ in range(topology.peers)]
    peers = peers_on(
        topology, targets, lambda number: towards(targets[number], RATE), rules=rules,
        policy=policy or MixPolicy(publish_every=NEVER_PUBLISH),
    )  # fmt: skip
    for peer in peers:
        peer.ledger.strict = False
        peer.boot(common + torch.randn(SIZE, generator=generator, dtype=torch.float64))
    return peers, targets


def bound(topology: Topology, targets: list[Tensor]) -> float:
    """Consensus distance at which training (which drives apart) and mixing (which brings together) are even.

    A round makes D into at most (1 - gap)(D + u), so that D stays below u (1 - gap) / gap; u: what one training does
    to the distance. Three times that, for models of one epoch ago and shares that went astray.
    """
    u = RATE * max(float((a - b).norm()) for a in targets for b in targets)
    return 3 * u / topology.spectral_gap()


def run(seed: int) -> Counter[str]:
    chance = random.Random(seed)
    topology = ring(5)
    peers, targets = world(topology, chance)
    schedule = Schedule(peers, chance, slow=frozenset(chance.sample(range(5), chance.choice([0, 0, 1]))))
    schedule.run(6, faulty=True)
    schedule.mend()
    schedule.run(10, faulty=False)
    models = [peer.model for peer in peers]
    assert distance_of(models) <= bound(topology, targets)
    assert schedule.waits <= RULES.longest + 0.01, "somebody waited past the bound"
    assert all(float((model - targets[0]).norm()) < 50 for model in models)
    fast = [peer.state.epoch for peer in peers if peer.number not in schedule.slow]
    assert max(fast) - min(fast) <= JUMP, "epochs drifted apart for good"
    for peer in peers:
        assert [fact.number for fact in peer.mixes] == list(range(peer.state.number)), (
            "a round is missing or there twice"
        )
        assert all(abs(f.own_weight + sum(p["weight"] for p in f.parents) - 1) < 1e-9 for f in peer.mixes)
    return schedule.faults


BLOCKS = [0, 1, *(pytest.param(block, marks=pytest.mark.slow) for block in range(2, 8))]


@pytest.mark.parametrize("block", BLOCKS)
def test_every_schedule_ends_in_a_bounded_distance_and_nobody_waits_for_ever(block: int) -> None:
    faults = sum((run(1000 * block + seed) for seed in range(25)), Counter[str]())
    for kind in ("crash", "restart", "partition", "heal", "diverge", "lost", "straggle"):
        assert faults[kind] >= 10, f"{kind}: {faults[kind]} in 25 schedules"


@pytest.mark.parametrize("robust", ["none", "trimmed_mean", "median", "centred_clip"])
@pytest.mark.parametrize("lie", LIES)
def test_a_liar_among_six_neighbours_moves_nobody_far(lie: str, robust: str) -> None:
    """Seven peers, each hears six. A round lets a liar move a peer by its share of ``clip`` usual distances, training
    takes back a part of what it moved so far: the honest ones stay within the sum."""
    clip, faults = 3.0, 0
    rules = RoundRules(shortest=10.0, longest=120.0, liars=0 if robust == "none" else 1)
    for seed in range(2):
        chance = random.Random(seed)
        peers, targets = world(full(7), chance, MixPolicy(robust=robust, publish_every=NEVER_PUBLISH), rules)
        schedule = Schedule(peers, chance, liar=6, lie=lie)
        schedule.run(25, faulty=False)
        faults += schedule.faults[f"lie {lie}"]
        honest = [peer.model for peer in peers[:6]]
        middle = torch.stack(targets[:6]).mean(dim=0)
        spread = max(float((target - middle).norm()) for target in targets[:6])
        usual = max(distance for peer in peers[:6] for distance in peer.state.distances)
        assert all(float((model - middle).norm()) <= spread + clip * usual / 7 / RATE for model in honest)
        assert all(float(model.norm()) > 0.8 * float(middle.norm()) for model in honest), "flipped signs do not win"
        assert max(peer.state.epoch for peer in peers[:6]) < 1000, "a liar took the epochs along"
        if lie in ("nan", "large"):
            assert all((peers[6].id, code_of(lie)) in peer.accused for peer in peers[:6])
    assert faults > 50


def code_of(lie: str) -> str:
    return {"nan": "not_finite", "large": "norm_too_large"}[lie]


def test_two_sides_of_a_partition_go_on_and_come_together() -> None:
    chance = random.Random(3)
    topology = ring(5)
    peers, targets = world(topology, chance)
    schedule = Schedule(peers, chance)
    schedule.run(3, faulty=False)
    schedule.split([0, 1])
    in_turn(peers[:2], peers[0].state.number + 30)  # the smaller side is much faster
    ahead = peers[0].state.epoch
    assert ahead > peers[3].state.epoch + JUMP
    schedule.wires.heal()
    schedule.run(15, faulty=False)
    assert min(peer.state.epoch for peer in peers) > ahead, "those who were behind follow"
    assert distance_of([peer.model for peer in peers]) <= bound(topology, targets)


def test_a_newcomer_takes_over_what_the_others_have() -> None:
    chance = random.Random(4)
    peers, _ = world(ring(3), chance)
    peers[2].die()
    in_turn(peers[:2], 20)
    peers[2].store.saved = None  # a new disk
    peers[2].ledger = RoundLedger(peers[2].trouble)
    peers[2].ledger.append(initialised())
    far = torch.full((SIZE,), 1000.0, dtype=torch.float64)
    peers[2].trainer.step = lambda model, epoch: model
    peers[2].boot(far)
    peers[2].wires.resend()
    in_turn(peers, 21)
    (first, *_) = peers[2].mixes
    assert first.own_weight == pytest.approx(0.0) and peers[2].state.epoch > 20
    assert float((peers[2].model - peers[0].model).norm()) < 50
