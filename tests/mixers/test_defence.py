"""Clipping and robust sums against literal numpy; what a liar can do at most."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mergenode.mixers.defence import (
    CENTRED_STEPS,
    Geometry,
    centred_clipping,
    clip_factors,
    coordinate_median,
    mixed_block,
    recipe,
    reference,
    trimmed_mean,
    worse,
)

Array = NDArray[np.float64]


def drawn(seed: int, rows: int = 6, size: int = 40) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, size))


def geometry(own: Array, start: Array, others: Array) -> Geometry:
    differences, update = others - own, own - start
    gram = tuple(tuple(row) for row in (differences @ differences.T).tolist())
    return Geometry(gram=gram, along=tuple((differences @ update).tolist()), update_sq=float(update @ update))


def mixed(robust: str, own: Array, others: Array, radius: float | None, usual: float = 1.0) -> Array:
    weights = [1 / 7] * len(others)
    plan = recipe(robust, weights, geometry(own, own, others), radius, usual, 0.2)
    return mixed_block(plan, torch.tensor(own), [torch.tensor(each) for each in others]).numpy()


def test_numbers_of_a_geometry() -> None:
    own, start, others = drawn(0)[0], drawn(1)[0], drawn(2)
    found = geometry(own, start, others)
    np.testing.assert_allclose(found.distances, np.linalg.norm(others - own, axis=1))
    moved, update = others[2] - start, own - start
    assert found.cosine(2) == pytest.approx(moved @ update / np.linalg.norm(moved) / np.linalg.norm(update))
    everybody = np.vstack([own[None], others])
    spread = np.sqrt(np.mean(np.sum((everybody - everybody.mean(axis=0)) ** 2, axis=1)))
    assert found.spread == pytest.approx(spread)
    assert found.only([4, 1]).distances == (found.distances[4], found.distances[1])
    assert geometry(own, own, others).cosine(0) is None


def test_the_reference_is_what_is_usual() -> None:
    assert reference([1.0, 2.0, 90.0], [], 0.0) == 2.0
    assert reference([1.0, 90.0], [], 0.0) == 1.0, "of two the nearer one"
    assert reference([90.0], [1.0, 2.0, 3.0], 0.0) == 2.0, "a lone liar is not its own measure"
    assert reference([0.1], [1.0], 0.5) == 0.5, "who trains apart is apart"
    assert reference([], [1.0], 0.5) == 0.5


@pytest.mark.parametrize("robust", ["trimmed_mean", "median"])
def test_coordinatewise_rules(robust: str) -> None:
    own, others = drawn(3)[0], drawn(4)
    ordered = np.sort(others - own, axis=0)
    literal = ordered[1:-1].mean(axis=0) if robust == "trimmed_mean" else np.median(others - own, axis=0)
    np.testing.assert_allclose(mixed(robust, own, others, None), own + 6 / 7 * literal, atol=1e-12)
    assert torch.equal(trimmed_mean(torch.tensor(others), 0), torch.tensor(others).sort(dim=0).values.mean(dim=0))
    np.testing.assert_allclose(coordinate_median(torch.tensor(others)).numpy(), np.median(others, axis=0))


@pytest.mark.parametrize("radius", [0.5, 3.0, 100.0])
def test_centred_clipping_from_inner_products(radius: float) -> None:
    own, others = drawn(5)[0], 2 * drawn(6)
    points, value = np.vstack([0 * own[None], others - own]), np.zeros_like(own)
    for _ in range(CENTRED_STEPS):
        apart = points - value
        factors = np.minimum(1.0, radius / np.maximum(np.linalg.norm(apart, axis=1), 1e-300))
        value = value + (factors[:, None] * apart).mean(axis=0)
    found = centred_clipping(geometry(own, own, others).gram, radius)
    np.testing.assert_allclose(np.array(found) @ (others - own), value, atol=1e-10)
    np.testing.assert_allclose(mixed("centred_clip", own, others, radius), own + value, atol=1e-10)


def test_a_plain_mix_is_the_weighted_sum_and_clipping_cuts_it_short() -> None:
    own, others = drawn(7)[0], drawn(8)
    np.testing.assert_allclose(mixed("none", own, others, None), own + (others - own).sum(axis=0) / 7, atol=1e-12)
    radius = 5.0
    lengths = np.linalg.norm(others - own, axis=1)
    cut = (others - own) * np.minimum(1, radius / lengths)[:, None]
    np.testing.assert_allclose(mixed("none", own, others, radius), own + cut.sum(axis=0) / 7, atol=1e-12)
    assert clip_factors([1.0, 10.0], 5.0) == (1.0, 0.5) and clip_factors([1.0], None) == (1.0,)


@pytest.mark.parametrize("robust", ["none", "trimmed_mean", "median", "centred_clip"])
@pytest.mark.parametrize("lie", ["sign", "large", "noise"])
def test_a_liar_among_six_moves_the_mix_by_no_more_than_is_stated(robust: str, lie: str) -> None:
    own = 10 + 0.1 * drawn(9)[0]
    honest = 10 + 0.1 * drawn(10, rows=5)
    liar = {"sign": -own, "large": 20 * own, "noise": own + 50 * drawn(11)[0]}[lie]
    others = np.vstack([honest, liar[None]])
    usual = float(np.sort(np.linalg.norm(others - own, axis=1))[2])
    got = mixed(robust, own, others, 3 * usual, usual)
    if robust == "none":
        without = own + (honest - own).sum(axis=0) / 7
        assert np.linalg.norm(got - without) <= 3 * usual / 7 + 1e-9
    elif robust == "centred_clip":
        value = own + np.array(centred_clipping(geometry(own, own, honest).gram, 3 * usual)) @ (honest - own)
        assert np.linalg.norm(got - value) <= 2 * CENTRED_STEPS * 3 * usual / 7
    else:
        low, high = np.minimum(honest, own).min(axis=0), np.maximum(honest, own).max(axis=0)
        assert (got >= low - 1e-9).all() and (got <= high + 1e-9).all()


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.sampled_from(["none", "trimmed_mean", "median", "centred_clip"]))
def test_equal_models_stay(seed: int, count: int, robust: str) -> None:
    own = drawn(seed)[0]
    weights = [1 / (count + 1)] * count
    others = np.repeat(own[None], count, axis=0)
    plan = recipe(robust, weights, geometry(own, own, others), 3.0, 1.0, 0.2)
    tensor = torch.tensor(own, dtype=torch.float32)
    assert torch.equal(mixed_block(plan, tensor, [tensor] * count), tensor)


def test_what_is_worse() -> None:
    assert worse({"loss": 1.0}, {"loss": 1.2}, 0.1, loss=True) and not worse(
        {"loss": 1.0}, {"loss": 1.09}, 0.1, loss=True
    )
    assert worse({"a": 0.8, "b": 0.6}, {"a": 0.5, "b": 0.5}, 0.1, loss=False)
    assert not worse({"a": 0.8}, {"a": 0.9}, 0.0, loss=False) and worse(
        {"a": 0.8}, {"a": float("nan")}, 9.0, loss=False
    )
