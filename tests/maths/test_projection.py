"""The fast projection against a literal one in float64, and what holds for every input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.maths import subspaces
from mergenode.maths.norms import inner
from mergenode.maths.projection import Variant, project
from tests.support.literal_opcm import literal_projection

SHAPES = {"tall": (96, 40), "wide": (40, 96), "square": (64, 64), "very tall": (600, 12), "tiny": (2, 3)}
TOLERANCE = 2e-6
"""Of ||delta||. The float32 reference routine of the authors is at 5e-6 to 1.4e-5."""


def random_matrix(m: int, n: int, seed: int, rank: int | None = None) -> torch.Tensor:
    """Gaussian, or a float32-rounded product of Gaussian factors of this rank."""
    generator = torch.Generator().manual_seed(seed)
    if rank is None:
        return torch.randn(m, n, generator=generator)
    factors = [torch.randn(size, rank, generator=generator, dtype=torch.float64) for size in (m, n)]
    return (factors[0] @ factors[1].mT).float()


def noise_line(matrix: torch.Tensor) -> float:
    return max(matrix.shape) * torch.finfo(matrix.dtype).eps


def relative_error(found: torch.Tensor, expected: np.ndarray, delta: torch.Tensor) -> float:
    return float(np.linalg.norm(found.double().numpy() - expected) / torch.linalg.vector_norm(delta.double()))


@pytest.mark.parametrize("variant", list(Variant))
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 0.9, 0.99])
def test_one_projection_agrees_with_the_literal_one(variant: Variant, shape: str, alpha: float) -> None:
    m, n = SHAPES[shape]
    accumulator, delta = random_matrix(m, n, 1), random_matrix(m, n, 2)
    found = project(accumulator, delta, alpha=alpha, variant=variant)
    expected, rank = literal_projection(
        accumulator.numpy().astype(np.float64), delta.numpy().astype(np.float64), alpha, variant.value
    )
    assert found.rank == rank
    assert relative_error(found.kept, expected, delta) < TOLERANCE


@pytest.mark.parametrize("variant", list(Variant))
@pytest.mark.parametrize("shape", ["tall", "wide", "square"])
@pytest.mark.parametrize("ranks", [(8, None), (8, 4), (1, 1), (None, 4)])
def test_low_rank_inputs(variant: Variant, shape: str, ranks: tuple[int | None, int | None]) -> None:
    """LoRA contributions: null-space pairs are arbitrary, so no variant may pair them."""
    m, n = SHAPES[shape]
    accumulator, delta = random_matrix(m, n, 3, ranks[0]), random_matrix(m, n, 4, ranks[1])
    found = project(accumulator, delta, alpha=0.5, variant=variant)
    expected, rank = literal_projection(
        accumulator.numpy().astype(np.float64),
        delta.numpy().astype(np.float64),
        0.5,
        variant.value,
        unpaired_below=noise_line(accumulator),
    )
    assert found.rank == rank
    assert relative_error(found.kept, expected, delta) < TOLERANCE


@pytest.mark.parametrize("variant", list(Variant))
def test_a_decaying_spectrum_like_that_of_fine_tuning(variant: Variant) -> None:
    generator = np.random.default_rng(5)
    left = np.linalg.qr(generator.standard_normal((120, 80)))[0]
    right = np.linalg.qr(generator.standard_normal((80, 80)))[0]
    accumulator = torch.from_numpy((left * np.arange(1, 81) ** -1.2) @ right.T).float()
    delta = random_matrix(120, 80, 6)
    found = project(accumulator, delta, alpha=0.5, variant=variant)
    expected, rank = literal_projection(
        accumulator.numpy().astype(np.float64), delta.numpy().astype(np.float64), 0.5, variant.value
    )
    assert found.rank == rank
    assert relative_error(found.kept, expected, delta) < TOLERANCE


@pytest.mark.parametrize("variant", list(Variant))
def test_float64_weights_are_projected_in_float64(variant: Variant) -> None:
    accumulator, delta = random_matrix(50, 30, 7).double(), random_matrix(50, 30, 8).double()
    found = project(accumulator, delta, alpha=0.5, variant=variant)
    expected, _ = literal_projection(accumulator.numpy(), delta.numpy(), 0.5, variant.value)
    assert found.kept.dtype == torch.float64
    assert relative_error(found.kept, expected, delta) < 1e-9


@pytest.mark.parametrize("variant", list(Variant))
def test_the_fallback_gives_the_same_projection(variant: Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulator, delta = random_matrix(96, 40, 1), random_matrix(96, 40, 2)
    expected = project(accumulator, delta, alpha=0.5, variant=variant)
    monkeypatch.setattr(subspaces, "CERTIFICATE", -1.0)
    found = project(accumulator, delta, alpha=0.5, variant=variant)
    assert (expected.fallback, found.fallback) == (False, True)
    assert found.rank == expected.rank
    assert relative_error(found.kept, expected.kept.double().numpy(), delta) < 2e-5


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(st.integers(2, 24), st.integers(2, 24)),
    seed=st.integers(0, 10**6),
    alpha=st.sampled_from([0.0, 0.2, 0.5, 0.8]),
    variant=st.sampled_from(list(Variant)),
    scales=st.tuples(st.sampled_from([1e-12, 1.0, 1e12]), st.sampled_from([1e-12, 1.0, 1e12])),
)
def test_invariants(
    shape: tuple[int, int], seed: int, alpha: float, variant: Variant, scales: tuple[float, float]
) -> None:
    accumulator = random_matrix(*shape, seed) * scales[0]
    delta = random_matrix(*shape, seed + 1) * scales[1]
    copies = accumulator.clone(), delta.clone()
    found = project(accumulator, delta, alpha=alpha, variant=variant)
    again = project(accumulator, delta, alpha=alpha, variant=variant)
    assert torch.equal(accumulator, copies[0])
    assert torch.equal(delta, copies[1])
    assert torch.equal(found.kept, again.kept)
    assert found.kept.shape == delta.shape
    assert found.kept.is_contiguous()
    assert found.kept.isfinite().all()
    assert not found.fallback
    size = delta.double().norm()
    assert found.kept.double().norm() <= size * (1 + 1e-5)
    removed = delta.double() - found.kept.double()
    if variant is not Variant.BLOCK_ORTHOGONAL:  # that one is two projections in a row
        assert abs(inner(removed, found.kept)) <= 1e-5 * float(size) ** 2
    if variant is not Variant.BLOCK:
        assert abs(inner(found.kept, accumulator)) <= 1e-5 * float(size * accumulator.double().norm())


def test_everything_passes_an_empty_merge() -> None:
    delta = random_matrix(5, 9, 1)
    found = project(torch.zeros(5, 9), delta, alpha=0.5, variant=Variant.PAPER)
    assert torch.equal(found.kept, delta)
    assert found.kept.data_ptr() != delta.data_ptr()
    assert (found.rank, found.effective_rank, found.fallback) == (0, 0.0, False)


@pytest.mark.parametrize("variant", list(Variant))
def test_a_zero_delta_stays_zero(variant: Variant) -> None:
    found = project(random_matrix(9, 6, 1), torch.zeros(9, 6), alpha=0.5, variant=variant)
    assert not found.kept.any()


def test_transposed_views_are_welcome() -> None:
    accumulator, delta = random_matrix(30, 20, 1), random_matrix(30, 20, 2)
    expected = project(accumulator, delta, alpha=0.5, variant=Variant.BLOCK)
    found = project(accumulator.mT, delta.mT, alpha=0.5, variant=Variant.BLOCK)
    assert torch.allclose(found.kept.mT, expected.kept, atol=1e-6)


@pytest.mark.parametrize("variant", [Variant.BLOCK, Variant.BLOCK_ORTHOGONAL])
def test_block_does_not_move_when_the_accumulator_trembles(variant: Variant) -> None:
    """Rank-deficient accumulator in float64: the block is stable to the order of the change."""
    accumulator, delta = random_matrix(64, 64, 3, rank=8).double(), random_matrix(64, 64, 4).double()
    trembling = accumulator + 1e-12 * random_matrix(64, 64, 5).double()
    first = project(accumulator, delta, alpha=0.5, variant=variant).kept
    second = project(trembling, delta, alpha=0.5, variant=variant).kept
    assert (first - second).norm() < 1e-9 * delta.norm()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="alpha"):
        project(torch.ones(3, 3), torch.ones(3, 3), alpha=1.0, variant=Variant.BLOCK)
    with pytest.raises(ValueError, match=r"\(3, 2\) against \(2, 3\)"):
        project(torch.ones(2, 3), torch.ones(3, 2), alpha=0.5, variant=Variant.BLOCK)
