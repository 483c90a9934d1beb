"""Mass is conserved under losses, repetitions and reordering, and estimates meet at the mean."""

from __future__ import annotations

import random

import pytest

from mergenode.mixers.push_sum import Holder, Share, gave, in_all, took

NODES = 5
RING = {node: [(node - 1) % NODES, (node + 1) % NODES] for node in range(NODES)}


def start(draw: random.Random) -> list[Holder]:
    return [Holder(Share((draw.uniform(-1, 1), draw.uniform(-1, 1)), 1.0)) for _ in range(NODES)]


def mean_of(holders: list[Holder]) -> tuple[float, ...]:
    total = in_all(holders)
    return tuple(value / total.mass for value in total.value)


@pytest.mark.parametrize("loss", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_with_a_message(loss: float, seed: int) -> None:
    draw = random.Random(seed)
    holders = start(draw)
    mean, mass = mean_of(holders), in_all(holders).mass
    delayed: list[tuple[int, int, Share]] = []
    lost = 0
    for _ in range(400):
        node = draw.randrange(NODES)
        holders[node] = gave(holders[node], RING[node])
        for other in RING[node]:
            message = (node, other, holders[node].sent[other])
            if draw.random() < loss:
                lost += 1
            else:
                delayed += [message] * draw.choice([1, 1, 2])
        draw.shuffle(delayed)  # they overtake each other
        for _ in range(min(len(delayed), draw.randint(0, 3))):
            source, target, total = delayed.pop()
            holders[target] = took(holders[target], source, total)
        assert in_all(holders).mass == pytest.approx(mass, rel=1e-12)
        assert mean_of(holders) == pytest.approx(mean, abs=1e-12)
    assert (lost > 0) == (loss > 0)
    for _ in range(200):  # lines work from now on: what was lost before arrives with the next message
        for node in range(NODES):
            holders[node] = gave(holders[node], RING[node])
            for other in RING[node]:
                holders[other] = took(holders[other], node, holders[node].sent[other])
    for holder in holders:
        assert holder.estimate == pytest.approx(mean, abs=1e-9)


def test_averages_that_forget_what_was_lost_drift() -> None:
    """Why totals travel: shares that are gone when their message is take the mean with them."""
    draw = random.Random(0)
    shares = [holder.share for holder in start(draw)]
    mean = sum(share.value[0] for share in shares) / NODES
    for _ in range(400):
        node = draw.randrange(NODES)
        part = shares[node].times(1 / 3)
        shares[node] = part
        for other in RING[node]:
            if draw.random() >= 0.3:
                shares[other] = shares[other].plus(part)
    estimates = [share.value[0] / share.mass for share in shares]
    assert max(abs(estimate - mean) for estimate in estimates) > 1e-3
