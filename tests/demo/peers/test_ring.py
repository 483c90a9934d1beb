"""Rounds in one process: what methods share, and that matching is what makes the first mix work."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from mergenode.demo.peers.fashion import Fashion
from mergenode.demo.peers.network import Recipe
from mergenode.demo.peers.ring import ACTIVATIONS, LOCAL, PLAIN, WEIGHTS, Circle, Step, shared_images
from mergenode.mixers.topology import ring

RECIPE = Recipe(rate=4e-3, calibration=200, first_passes=3)


@pytest.fixture(scope="module")
def circle(few: Fashion) -> Circle:
    return Circle(few, "iid", 0, RECIPE, ring(3))


@pytest.fixture(scope="module")
def first(circle: Circle) -> dict[str, Step]:
    @cache
    def played(method: str) -> Step:
        return next(circle.play(method, 1))[0]

    return {method: played(method) for method in (LOCAL, PLAIN, WEIGHTS, ACTIVATIONS)}


def mean(scores: tuple[float, ...]) -> float:
    return sum(scores) / len(scores)


def test_all_methods_begin_with_the_same_models(first: dict[str, Step]) -> None:
    assert len({step.trained for step in first.values()}) == 1
    assert first[LOCAL].mixed == first[LOCAL].trained
    assert first[LOCAL].moved == first[PLAIN].moved == 0.0


def test_matching_is_what_makes_the_first_mix_work(first: dict[str, Step]) -> None:
    assert mean(first[ACTIVATIONS].mixed) > mean(first[PLAIN].mixed) + 0.2
    assert mean(first[WEIGHTS].mixed) > mean(first[PLAIN].mixed) + 0.05
    assert first[ACTIVATIONS].moved > 0.8
    assert first[ACTIVATIONS].distance < first[LOCAL].distance


def test_everybody_agrees_after_a_plain_average_of_all(first: dict[str, Step]) -> None:
    """Three on a ring are everybody: plain averaging makes one model of them, but for BatchNorm statistics."""
    assert first[PLAIN].distance < 0.1 * first[LOCAL].distance


def test_the_final_average_is_the_even_one(circle: Circle) -> None:
    _, models = next(circle.play(ACTIVATIONS, 1))
    alike = [models[0]] * 3
    assert circle.one_average(alike, matched=False) == pytest.approx(circle.one_average(alike, matched=True))
    assert circle.one_average(models, matched=True) > circle.one_average(models, matched=False)


def test_shared_images_are_everybodys(circle: Circle) -> None:
    shared = shared_images(circle)
    assert len(shared.labels) == 3 * (200 // 3)
    firsts = torch.cat([shard.images[: 200 // 3] for shard in circle.shards])
    assert torch.allclose(shared.images.sum(), firsts.sum())
