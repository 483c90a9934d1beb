"""Rank rules against their sentences in the sources."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.maths.rank import covering_rank, effective_rank, leading_rank, numerical_rank

spectra = st.lists(st.floats(0.015625, 64, width=32), min_size=1, max_size=30).map(
    lambda values: torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
)
shares = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.75, 0.99])


@settings(deadline=None, max_examples=60)
@given(spectra, shares)
def test_leading_rank_is_the_first_index_that_exceeds_the_share(values: torch.Tensor, alpha: float) -> None:
    total = float(values.sum())
    margins = [float(values[: k + 1].sum()) / total - alpha for k in range(len(values))]
    rank = leading_rank(values, alpha)
    assert margins[rank] > -1e-12
    assert all(margin <= 1e-12 for margin in margins[:rank])


@settings(deadline=None, max_examples=60)
@given(spectra, shares)
def test_covering_rank_is_the_smallest_count_that_reaches_the_share(values: torch.Tensor, alpha: float) -> None:
    total = float(values.sum())
    rank = covering_rank(values, alpha)
    assert float(values[:rank].sum()) >= alpha * total - 1e-9
    assert rank == 0 or float(values[: rank - 1].sum()) < alpha * total + 1e-9


def test_the_two_rules_differ_by_one_direction_away_from_ties() -> None:
    values = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    assert (leading_rank(values, 0.5), covering_rank(values, 0.5)) == (1, 2)


def test_a_share_met_exactly_is_exceeded_only_by_the_next_direction() -> None:
    values = torch.ones(4, dtype=torch.float64)
    assert leading_rank(values, 0.5) == 2
    assert covering_rank(values, 0.5) == 2


@pytest.mark.parametrize("rule", [leading_rank, covering_rank])
@pytest.mark.parametrize("alpha", [1.0, 1.5, -0.1, math.nan])
def test_alpha_outside_its_range_is_refused(rule: object, alpha: float) -> None:
    assert callable(rule)
    with pytest.raises(ValueError, match="alpha"):
        rule(torch.ones(3, dtype=torch.float64), alpha)


def test_zero_and_empty_spectra_protect_nothing() -> None:
    for values in (torch.zeros(5, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)):
        assert leading_rank(values, 0.5) == covering_rank(values, 0.5) == 0
        assert effective_rank(values) == 0.0
        assert numerical_rank(values, torch.Size((5, 5)), torch.float32) == 0


def test_effective_rank_counts_equal_directions() -> None:
    values = torch.tensor([3.0] * 7 + [0.0] * 5, dtype=torch.float64)
    assert effective_rank(values) == pytest.approx(7.0)


@settings(deadline=None, max_examples=40)
@given(spectra)
def test_effective_rank_lies_between_one_and_full(values: torch.Tensor) -> None:
    assert 1 - 1e-9 <= effective_rank(values) <= len(values) + 1e-9
    assert effective_rank(values * 3.5) == pytest.approx(effective_rank(values))


def test_numerical_rank_ignores_rounding_noise() -> None:
    values = torch.tensor([1.0, 1e-3, 1e-8, 0.0], dtype=torch.float64)
    assert numerical_rank(values, torch.Size((64, 4)), torch.float32) == 2
    assert numerical_rank(values, torch.Size((64, 4)), torch.float64) == 3
