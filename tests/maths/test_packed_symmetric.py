"""Packed symmetric matrices against full ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mergenode.maths.packed_symmetric import (
    diagonal,
    order_of,
    packed,
    packed_gram,
    packed_shape,
    product,
    wide_lower,
)

ORDERS = [1, 2, 3, 4, 5, 8, 13, 64, 65]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_a_gram_matrix_comes_back_whole(order: int, rows: int) -> None:
    tall = draw(rows, order)
    full, stored = tall.T @ tall, packed_gram(tall)
    assert stored.shape == packed_shape(order) and order_of(stored) == order
    lower = np.tril(wide_lower(stored))
    assert np.allclose(lower, np.tril(full.numpy()), rtol=1e-12, atol=1e-12)
    assert torch.allclose(diagonal(stored), full.diagonal())
    assert torch.allclose(product(torch.eye(order, dtype=torch.float64), stored), full, rtol=1e-12, atol=1e-12)
    assert torch.allclose(packed_gram(tall.T.contiguous().T), stored, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_packing_reads_the_lower_triangle_and_adds_up(order: int) -> None:
    one, other = draw(order, order), draw(order, order, seed=1)
    one, other = one + one.T, other + other.T
    total = packed(one.tril()) + packed(other.tril())
    left = draw(7, order, seed=2)
    assert torch.allclose(product(left, total), left @ (one + other), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_it_takes_half_of_the_room(order: int) -> None:
    elements = packed_shape(order)[0] * packed_shape(order)[1]
    assert order * (order + 1) // 2 <= elements <= (order + 1) ** 2 // 2


def test_products_in_a_wider_type_are_computed_in_it() -> None:
    tall, left = draw(30, 9).float(), draw(4, 9, seed=3)
    stored = packed_gram(tall)
    found = product(left, stored)
    assert found.dtype == torch.float64
    lower = torch.from_numpy(wide_lower(stored)).tril()
    assert torch.allclose(found, left @ (lower + lower.tril(-1).T), rtol=1e-13, atol=1e-13)


def test_inputs_survive() -> None:
    tall = draw(10, 6)
    stored = packed_gram(tall)
    copies = [tensor.clone() for tensor in (tall, stored)]
    packed_gram(tall), product(draw(2, 6), stored), wide_lower(stored), diagonal(stored)
    assert torch.equal(tall, copies[0]) and torch.equal(stored, copies[1])
