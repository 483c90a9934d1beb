"""Leading singular directions against full decompositions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.maths.leading_energy import SMALL, fixed_start, leading_energies, product_energies


def exact(matrix: torch.Tensor, count: int) -> tuple[float, list[float]]:
    squares = torch.linalg.svdvals(matrix.double()).square()
    return float(squares.sum()), [float(squares[: k + 1].sum()) for k in range(count)]


def matrix_of(spectrum: torch.Tensor, rows: int, seed: int = 0) -> torch.Tensor:
    draw, n = torch.Generator().manual_seed(seed), len(spectrum)
    left = torch.linalg.qr(torch.randn(rows, n, generator=draw)).Q
    right = torch.linalg.qr(torch.randn(n, n, generator=draw)).Q
    return (left * spectrum) @ right.T


LARGE = SMALL + 64
SPECTRA = {
    "flat": torch.ones(LARGE),
    "slow": torch.arange(1, LARGE + 1.0) ** -0.5,
    "fast": 0.9 ** torch.arange(float(LARGE)),
    "spike": torch.cat([torch.tensor([30.0]), torch.ones(LARGE - 1)]),
    "twins": torch.cat([torch.full((16,), 5.0), torch.full((LARGE - 16,), 0.1)]),
    "rank one": torch.cat([torch.ones(1), torch.zeros(LARGE - 1)]),
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e12])
def test_iterated_energies_are_those_of_the_decomposition(name: str, scale: float) -> None:
    matrix = matrix_of(SPECTRA[name] * scale, LARGE + 40)
    energy, sums = leading_energies(matrix, 4)
    expected, expected_sums = exact(matrix, 4)
    assert energy == pytest.approx(expected, rel=1e-6)
    assert sums == pytest.approx(expected_sums, abs=1e-3 * expected)
    assert leading_energies(matrix.T, 4)[1] == pytest.approx(sums, abs=1e-3 * expected)


def test_random_matrices_of_all_shapes() -> None:
    draw = torch.Generator().manual_seed(3)
    for shape in [(1, 1), (1, 9), (7, 2), (40, 40), (SMALL, 3), (SMALL + 5, SMALL + 2), (300, 520)]:
        matrix = torch.randn(shape, generator=draw)
        energy, sums = leading_energies(matrix, 4)
        assert sums == pytest.approx(exact(matrix, 4)[1], abs=1e-3 * energy), shape
        assert list(sums) == sorted(sums) and sums[-1] <= energy


@settings(deadline=None, max_examples=25)
@given(
    m=st.integers(1, 30), n=st.integers(1, 30), r=st.integers(1, 12), seed=st.integers(0, 99),
    scale=st.sampled_from([1e-5, 1.0, 1e5]),
)  # fmt: skip
def test_a_product_is_the_matrix_that_it_makes(m: int, n: int, r: int, seed: int, scale: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    left, right = torch.randn(m, r, generator=draw) * scale, torch.randn(r, n, generator=draw)
    energy, sums = product_energies(left, right, 3)
    expected, expected_sums = exact(left.double() @ right.double(), 3)
    assert energy == pytest.approx(expected, rel=1e-9)
    assert sums == pytest.approx(expected_sums, rel=1e-9)


def test_zero_empty_and_what_is_no_number() -> None:
    assert leading_energies(torch.zeros(5, 400), 2) == (0.0, (0.0, 0.0))
    assert leading_energies(torch.zeros(0, 4), 2) == (0.0, (0.0, 0.0))
    assert product_energies(torch.zeros(3, 0), torch.zeros(0, 3), 1) == (0.0, (0.0,))
    for bad in (math.nan, math.inf):
        matrix = torch.ones(4, 4)
        matrix[2, 1] = bad
        for energy, sums in (leading_energies(matrix, 2), product_energies(matrix, torch.ones(4, 4), 2)):
            assert math.isnan(energy) and all(map(math.isnan, sums))


def test_the_start_is_full_rank_and_the_same_everywhere() -> None:
    for rows in (SMALL + 1, 1000, 4096):
        values = torch.linalg.svdvals(fixed_start(rows).double())
        assert float(values[-1] / values[0]) > 1e-2
    assert torch.equal(fixed_start(300), fixed_start(400)[:300])
