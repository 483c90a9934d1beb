"""What the theory of averaging promises, seen on whole nodes: the mean, its drift under losses, the rate."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mergenode.daemon.circle import MixPolicy
from mergenode.ledger.round_state import Phase
from mergenode.mixers.rounds import RoundRules
from mergenode.mixers.topology import Topology, exponential, full, mean_shift, ring, torus
from tests.support.round_exchange import node_id
from tests.support.round_world import NEVER_PUBLISH, Peer, distance_of, in_turn, mean_of, peers_on

SIZE = 32


def idle(model: Tensor, epoch: int) -> Tensor:
    return model


def started(topology: Topology, *, named: bool = False, synchronous: bool = True) -> list[Peer]:
    generator = torch.Generator().manual_seed(topology.peers)
    starts = [torch.randn(SIZE, generator=generator, dtype=torch.float64) for _ in range(topology.peers)]
    rules = RoundRules(synchronous=synchronous, staleness=0 if synchronous else 1)
    policy = MixPolicy(clip=None, publish_every=NEVER_PUBLISH)
    peers = peers_on(topology, starts, lambda number: idle, rules=rules, policy=policy, named=named)
    for peer, start in zip(peers, starts, strict=True):
        peer.boot(start)
    return peers


@pytest.mark.parametrize("named", [False, True], ids=["by degrees", "named"])
@pytest.mark.parametrize("topology", [ring(5), full(4), torus(9), exponential(8)], ids=["ring", "full", "torus", "exp"])
def test_mixing_preserves_the_mean_when_all_are_alive(topology: Topology, named: bool) -> None:
    peers = started(topology, named=named)
    before = mean_of([peer.model for peer in peers])
    for rounds in range(1, 6):
        in_turn(peers, rounds)
        torch.testing.assert_close(mean_of([peer.model for peer in peers]), before, atol=1e-12, rtol=0)
    assert all(len(fact.parents) == len(topology.neighbours(peer.number)) for peer in peers for fact in peer.mixes)


@pytest.mark.parametrize("topology", [ring(8), torus(16)], ids=["ring 8", "torus 16"])
def test_consensus_distance_decays_as_the_spectral_gap_says(topology: Topology) -> None:
    """The long-run rate: the first rounds also take away what fades faster."""
    peers = started(topology)
    distances = []
    for rounds in range(1, 31):
        in_turn(peers, rounds)
        distances.append(distance_of([peer.model for peer in peers]))
    rate = (distances[29] / distances[19]) ** (1 / 10)
    assert 1 - rate == pytest.approx(topology.spectral_gap(), rel=0.2)


@pytest.mark.parametrize("lost", [{(0, 1)}, {(0, 1), (1, 0)}, {(0, 1), (2, 3), (3, 2), (4, 0)}])
def test_one_sided_losses_move_the_mean_within_the_bound(lost: set[tuple[int, int]]) -> None:
    """(i, j): what j sends does not reach i."""
    topology = ring(5)
    peers = started(topology, synchronous=False)
    pairs = {(node_id(j), node_id(i)) for i, j in lost}
    peers[0].wires.tamper = lambda sender, receiver, head, path: None if (sender, receiver) in pairs else (head, path)
    models = [peer.model for peer in peers]
    before = mean_of(models)
    spread = max(float((models[i] - models[j]).norm()) for i in range(5) for j in topology.neighbours(i))
    in_turn(peers, 1)
    moved = float((mean_of([peer.model for peer in peers]) - before).norm())
    exact = sum((topology.shares[i][j] / 5 * (models[i] - models[j]) for i, j in lost), torch.zeros(SIZE).double())
    assert moved == pytest.approx(float(exact.norm()), abs=1e-9)
    assert moved <= mean_shift(topology, lost, spread) + 1e-12


def test_a_node_alone_goes_on_alone() -> None:
    peers = started(ring(3), synchronous=False)
    for other in peers[1:]:
        other.die()
    in_turn(peers[:1], 4)
    assert all(fact.own_weight == 1.0 and not fact.parents for fact in peers[0].mixes)
    assert peers[0].clock.monotonic() <= 2 * RoundRules().shortest, "only the first wait, when nobody can know"


def test_the_phases_of_a_round_are_timed_and_told() -> None:
    peers = started(ring(3))
    in_turn(peers, 1)
    (fact,) = peers[0].mixes
    assert set(fact.seconds) == {phase.value for phase in Phase} - {"commit", "rest"}
    assert fact.spread is not None and fact.spread > 0 and fact.update == 0.0
