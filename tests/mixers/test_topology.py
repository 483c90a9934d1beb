"""Topologies and mixing weights: stochasticity, the mean, losses, the predicted rate."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.errors import UsageError
from mergenode.mixers.topology import (
    Topology,
    consensus_distance,
    custom,
    exponential,
    full,
    mean_shift,
    metropolis,
    ring,
    torus,
)

SHAPES: dict[str, Callable[[int], Topology]] = {"ring": ring, "full": full, "torus": torus, "exponential": exponential}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())


@st.composite
def connected_topologies(draw: st.DrawFn) -> Topology:
    peers = draw(st.integers(2, 9))
    edges = {peer: {draw(st.integers(0, peer - 1))} if peer else set() for peer in range(peers)}
    for _ in range(draw(st.integers(0, peers))):
        edges[draw(st.integers(0, peers - 1))].add(draw(st.integers(0, peers - 1)))
    return metropolis(edges)


@shapes
@pytest.mark.parametrize("peers", [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16])
def test_doubly_stochastic_and_symmetric_when_all_answer(shape: Callable[[int], Topology], peers: int) -> None:
    topology = shape(peers)
    w = topology.matrix()
    assert topology.peers == peers
    assert (w >= 0).all() and (w == w.T).all()
    np.testing.assert_allclose(w.sum(axis=0), 1.0, atol=1e-12)
    np.testing.assert_allclose(w.sum(axis=1), 1.0, atol=1e-12)
    assert 0 < topology.spectral_gap() <= 1


def test_the_graphs_are_those_of_their_names() -> None:
    assert ring(5).neighbours(0) == {1, 4}
    assert full(4).neighbours(2) == {0, 1, 3}
    assert torus(12).neighbours(0) == {1, 3, 4, 8}  # three rows of four
    assert torus(7).neighbours(3) == {2, 4}
    assert exponential(8).neighbours(0) == {1, 2, 4, 6, 7}
    assert ring(2).neighbours(0) == {1}
    assert ring(1).neighbours(0) == frozenset()


def test_shares_of_the_published_ring_and_of_everybody() -> None:
    assert ring(5).weights(0, {1, 4}) == pytest.approx({0: 1 / 3, 1: 1 / 3, 4: 1 / 3})
    assert full(4).weights(3, {0, 1, 2}) == pytest.approx(dict.fromkeys(range(4), 0.25))
    assert full(6).spectral_gap() == pytest.approx(1.0)


@settings(deadline=None, max_examples=40)
@given(topology=connected_topologies(), seed=st.integers(0, 99))
def test_the_mean_stays_when_all_answer_and_moves_within_the_bound_when_not(topology: Topology, seed: int) -> None:
    draws = np.random.default_rng(seed)
    models = draws.normal(size=(topology.peers, 3))
    mean = models.mean(axis=0)
    np.testing.assert_allclose((topology.matrix() @ models).mean(axis=0), mean, atol=1e-12)

    edges = [(i, j) for i in range(topology.peers) for j in topology.neighbours(i)]
    lost = {edge for edge in edges if draws.random() < 0.4}
    mixed = topology.matrix(lost) @ models
    assert (topology.matrix(lost) >= -1e-12).all()
    exact = sum((topology.shares[i][j] * (models[i] - models[j]) for i, j in lost), np.zeros(3)) / topology.peers
    np.testing.assert_allclose(mixed.mean(axis=0) - mean, exact, atol=1e-12)
    spread = max(float(np.linalg.norm(models[i] - models[j])) for i, j in edges)
    assert np.linalg.norm(mixed.mean(axis=0) - mean) <= mean_shift(topology, lost, spread) + 1e-12


def test_an_edge_lost_in_both_directions_moves_no_mean() -> None:
    lost = {(0, 1), (1, 0)}
    models = np.random.default_rng(0).normal(size=(5, 2))
    np.testing.assert_allclose((ring(5).matrix(lost) @ models).mean(axis=0), models.mean(axis=0), atol=1e-12)
    assert mean_shift(ring(5), lost, 1.0) == 0.0
    assert mean_shift(ring(5), {(0, 1)}, 3.0) == pytest.approx(0.2)


@settings(deadline=None, max_examples=40)
@given(topology=connected_topologies(), data=st.data())
def test_missing_shares_go_to_the_peer_itself(topology: Topology, data: st.DataObject) -> None:
    peer = data.draw(st.integers(0, topology.peers - 1))
    answered = data.draw(st.sets(st.sampled_from(sorted(topology.neighbours(peer)))))
    everybody, some = topology.weights(peer, topology.neighbours(peer)), topology.weights(peer, answered)
    assert list(some) == sorted(answered | {peer})
    assert sum(some.values()) == pytest.approx(1.0, abs=1e-12)
    assert {other: some[other] for other in answered} == {other: everybody[other] for other in answered}
    missing = sum(everybody[other] for other in topology.neighbours(peer) - answered)
    assert some[peer] == pytest.approx(everybody[peer] + missing, abs=1e-12)


@pytest.mark.parametrize(
    "topology", [ring(5), ring(9), torus(16), exponential(16), custom([[0.6, 0.4, 0], [0.4, 0.3, 0.3], [0, 0.3, 0.7]])]
)
def test_consensus_distance_decays_at_the_rate_of_the_spectral_gap(topology: Topology) -> None:
    models = torch.randn(topology.peers, 400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    w = torch.from_numpy(topology.matrix())
    distances = []
    for _ in range(30):
        distances.append(consensus_distance([{"w": row} for row in models]))
        models = w @ models
    measured = (distances[25] / distances[10]) ** (1 / 15)
    assert measured == pytest.approx(1 - topology.spectral_gap(), rel=0.2)
    assert all(late <= early * (1 - topology.spectral_gap()) + 1e-15 for early, late in itertools.pairwise(distances))


def test_consensus_distance_against_its_definition() -> None:
    models = [
        {"a": torch.tensor([1.0, 3.0]), "steps": torch.tensor(1)},
        {"a": torch.tensor([3.0, 3.0]), "steps": torch.tensor(9)},
    ]
    assert consensus_distance(models) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        ([[0.5, 0.5], [0.5]], "rows that are not 2 long"),
        ([[0.5, 0.4], [0.4, 0.6]], "row 0"),
        ([[0.5, 0.5, 0.0], [0.4, 0.5, 0.1], [0.1, 0.0, 0.9]], "not symmetric"),
        ([[1.5, -0.5], [-0.5, 1.5]], "negative"),
        ([[float("nan"), 1.0], [1.0, 0.0]], "not finite"),
        ([[1.0, 0.0], [0.0, 1.0]], "peer 0 and peer 1"),
        ([], "without peers"),
    ],
)
def test_a_matrix_that_does_not_mix_is_refused(matrix: list[list[float]], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        custom(matrix)


@shapes
def test_no_peers_are_refused(shape: Callable[[int], Topology]) -> None:
    with pytest.raises(UsageError, match="without peers"):
        shape(0)


def test_an_answer_from_a_stranger_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[2\] are no neighbours of peer 0"):
        ring(5).weights(0, {1, 2})
