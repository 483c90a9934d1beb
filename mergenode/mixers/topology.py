"""Who exchanges with whom, and in which share: topologies, mixing weights, spectral gap.

A topology is a connected undirected graph over the peers 0 .. n-1. Each round, peer i replaces its model x_i by
``sum_j w_ij x_j`` over itself and the neighbours that answered. When all answer, W is symmetric and doubly stochastic:
the mean of all models stays, and the distance to it shrinks by ``1 - spectral_gap`` per round or faster.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt, sqrt

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mergenode.errors import UsageError

Matrix = NDArray[np.float64]

SUM_TOLERANCE = 1e-9
"""How far a row of a given matrix may be from summing to one: what decimal fractions in a file lose."""


@dataclass(frozen=True, slots=True)
class Topology:
    """``shares[i][j]``: the weight of neighbour j in the mix of peer i when everybody answers; peer i is not in it."""

    shares: tuple[Mapping[int, float], ...]

    @property
    def peers(self) -> int:
        return len(self.shares)

    def neighbours(self, peer: int) -> frozenset[int]:
        """The peers that ``peer`` exchanges with, itself not among them. Symmetric."""
        return frozenset(self.shares[peer])

    def weights(self, peer: int, answered: Collection[int]) -> dict[int, float]:
        """What enters the mix of ``peer``, by peer, in ascending order; sums to one.

        The share of a neighbour that did not answer goes to ``peer`` itself, never to the others: if both ends of an
        edge miss each other, W stays symmetric and the mean of all models stays. If only one does, see
        ``mean_shift``. ``answered`` may hold ``peer``.

        Raises:
            ValueError: somebody answered who is no neighbour.
        """
        strangers = set(answered) - self.neighbours(peer) - {peer}
        if strangers:
            raise ValueError(f"{sorted(strangers)} are no neighbours of peer {peer}")
        present = {other: self.shares[peer][other] for other in answered if other != peer}
        present[peer] = 1.0 - sum(present[other] for other in sorted(present))
        return {other: present[other] for other in sorted(present)}

    def matrix(self, lost: Collection[tuple[int, int]] = ()) -> Matrix:
        """W, ``[n, n]``, rows sum to one. ``lost``: pairs (i, j) where i did not hear j this round."""
        result = np.zeros((self.peers, self.peers))
        for peer in range(self.peers):
            answered = [other for other in self.neighbours(peer) if (peer, other) not in lost]
            for other, weight in self.weights(peer, answered).items():
                result[peer, other] = weight
        return result

    def spectral_gap(self) -> float:
        """``1 - max(|lambda_2|, |lambda_n|)`` of W, in (0, 1]. One for a single peer.

        The distance to consensus shrinks at least by ``1 - spectral_gap`` per round, and in the long run exactly so
        (Xiao and Boyd, Fast linear iterations for distributed averaging, 2004, eq. 7).
        """
        if self.peers == 1:
            return 1.0
        moduli = np.sort(np.abs(np.linalg.eigvalsh(self.matrix())))
        return float(1.0 - moduli[-2])


def ring(peers: int) -> Topology:
    """Each peer and its two neighbours on a circle."""
    return metropolis({peer: {peer - 1, peer + 1} for peer in range(peers)})


def full(peers: int) -> Topology:
    """Everybody with everybody: consensus after one round."""
    return metropolis({peer: range(peers) for peer in range(peers)})


def torus(peers: int) -> Topology:
    """A grid that wraps around, as square as the number allows; a ring where it is prime."""
    if peers < 1:
        return metropolis({})
    rows = next(divisor for divisor in range(isqrt(peers), 0, -1) if peers % divisor == 0)
    columns = peers // rows

    def around(peer: int) -> set[int]:
        row, column = divmod(peer, columns)
        beside = {row * columns + (column + step) % columns for step in (-1, 1)}
        return beside | {(row + step) % rows * columns + column for step in (-1, 1)}

    return metropolis({peer: around(peer) for peer in range(peers)})


def exponential(peers: int) -> Topology:
    """Peers at distances 1, 2, 4, ... in both directions: about 2 log2(n) neighbours.

    The static exponential graph of the literature is directed; this is its symmetric closure, because an exchange
    here goes both ways.
    """
    hops = [1 << power for power in range(max(peers - 1, 0).bit_length())]
    return metropolis({peer: {peer + hop for hop in hops} | {peer - hop for hop in hops} for peer in range(peers)})


def metropolis(edges: Mapping[int, Iterable[int]]) -> Topology:
    """Metropolis-Hastings weights ``1 / (1 + max(degree_i, degree_j))`` on these edges (Xiao and Boyd, 2004, 4.3).

    Degrees are those of the declared graph, not of who is alive: both ends of an edge use the same weight without
    asking each other, whatever each of them has heard. Numbers are taken modulo the number of peers.

    Raises:
        UsageError: no peers, or peers that no chain of edges connects.
    """
    peers = len(edges)
    near: list[set[int]] = [set() for _ in range(peers)]
    for peer, others in edges.items():
        for other in others:
            if other % peers != peer:
                near[peer].add(other % peers)
                near[other % peers].add(peer)
    degrees = [len(others) for others in near]
    return _connected(
        tuple(
            {other: 1.0 / (1 + max(degrees[peer], degrees[other])) for other in sorted(near[peer])}
            for peer in range(peers)
        )
    )


def custom(matrix: Sequence[Sequence[float]]) -> Topology:
    """The mixing matrix that somebody wrote down, ``[n, n]``: neighbours are where it is not zero.

    Raises:
        UsageError: not square, not finite, negative, not symmetric, rows that do not sum to one, or not connected.
    """
    rows = [list(row) for row in matrix]
    if any(len(row) != len(rows) for row in rows):
        raise UsageError(f"the mixing matrix has rows that are not {len(rows)} long", hint="It has to be square.")
    w = np.array(rows, dtype=np.float64).reshape(len(rows), len(rows))
    if not (np.isfinite(w).all() and (w >= 0).all()):
        raise UsageError("the mixing matrix has an entry that is negative or not finite", hint="Shares are 0 to 1.")
    if not (w == w.T).all():
        i, j = (int(index) for index in np.argwhere(w != w.T)[0])
        raise UsageError(
            f"the mixing matrix is not symmetric: [{i}][{j}] is {w[i, j]}, [{j}][{i}] is {w[j, i]}",
            hint="Both ends of an edge need the same share, else the mean of the models drifts.",
        )
    for peer, total in enumerate(w.sum(axis=1)):
        if abs(total - 1.0) > SUM_TOLERANCE:
            raise UsageError(f"row {peer} of the mixing matrix sums to {total}", hint="Every row has to sum to 1.")
    everybody = range(len(rows))
    return _connected(tuple({j: float(w[i, j]) for j in everybody if j != i and w[i, j] > 0} for i in everybody))


def mean_shift(topology: Topology, lost: Collection[tuple[int, int]], spread: float) -> float:
    """Upper bound on how far the mean of all models moves in one round: ``spread / n * |sum of the lost shares|``.

    ``lost``: pairs (i, j) where i did not hear j. ``spread``: the largest distance between two models that share an
    edge. Exactly, the mean moves by ``1/n sum w_ij (x_i - x_j)`` over the lost pairs. A pair lost in both directions
    cancels and is not counted.
    """
    one_sided = {(i, j) for i, j in lost if (j, i) not in lost}
    return spread * sum(topology.shares[i][j] for i, j in sorted(one_sided)) / topology.peers


def consensus_distance(models: Sequence[Mapping[str, Tensor]]) -> float:
    """``sqrt(1/n sum_i |x_i - mean|^2)`` over the floating tensors, in weight units, accumulated in fp64."""
    total = 0.0
    for name, first in models[0].items():
        if first.is_floating_point():
            values = [model[name].double() for model in models]
            mean = sum(values[1:], start=values[0]) / len(values)
            total += sum(float((value - mean).square().sum()) for value in values)
    return sqrt(total / len(models))


def _connected(shares: tuple[dict[int, float], ...]) -> Topology:
    if not shares:
        raise UsageError("a topology without peers", hint="Name at least one peer.")
    reached, frontier = {0}, [0]
    while frontier:
        new = set(shares[frontier.pop()]) - reached
        reached |= new
        frontier.extend(new)
    if len(reached) < len(shares):
        missing = min(set(range(len(shares))) - reached)
        raise UsageError(
            f"no chain of edges connects peer 0 and peer {missing}", hint="They would never agree: add an edge."
        )
    return Topology(shares)
