"""Vetoes against a loop over entries, exact edges of bins, and what makes them the same everywhere."""

from __future__ import annotations

from math import inf

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergenode.maths.norms import CHUNK
from mergenode.maths.veto import BINS, count_rises, lower_edge, predicted_rise, total_rise, veto, veto_threshold

budgets = st.one_of(st.none(), st.floats(0.0, 2.0))


def draws(seed: int, count: int = 300) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    fisher = torch.randn(count, generator=draw).mul(3.0).exp()
    fisher[::7] = 0.0
    delta = torch.randn(count, generator=draw) * 0.1
    delta[::11] = 0.0
    return fisher, delta, torch.randn(count, generator=draw) * 0.1


def rises_by_loop(fisher: Tensor, delta: Tensor, away: Tensor | None) -> list[float]:
    aways = away.tolist() if away is not None else [0.0] * len(delta)
    return [f * ((a + d / 2) * d) for f, d, a in zip(fisher.tolist(), delta.tolist(), aways, strict=True)]


def kept_by_loop(rises: list[float], budget: float) -> list[bool]:
    """The oracle: whole groups of the same bin leave, the worst first, until the upper edges fit the budget."""
    bins: dict[int, list[int]] = {}
    for place, rise in enumerate(rises):
        if rise > 0:
            number = next(number for number in range(BINS) if rise < lower_edge(number + 1))
            bins.setdefault(number, []).append(place)
    kept = [True] * len(rises)
    for worst in sorted(bins, reverse=True):
        if sum(len(bins[number]) * lower_edge(number + 1) for number in sorted(bins) if number <= worst) <= budget:
            break
        for place in bins[worst]:
            kept[place] = False
    return kept


@given(st.integers(0, 1000), budgets, budgets, st.booleans())
@settings(deadline=None, max_examples=15)
def test_vetoes_equal_those_of_a_loop(seed: int, rise: float | None, share: float | None, moved: bool) -> None:
    fisher, delta, apart = draws(seed, 40)
    away = apart if moved else None
    rises = rises_by_loop(fisher, delta, away)
    counts = count_rises(fisher, delta, away)
    whole = total_rise(counts)
    kept = kept_by_loop(rises, min(inf if rise is None else rise, inf if share is None else share * whole))
    threshold = veto_threshold(counts, max_rise=rise, max_share=share)
    after = delta.clone()
    lost = veto(after, fisher, threshold, away=away)
    assert [bool(entry != 0) for entry in after] == [
        stays and bool(d != 0) for stays, d in zip(kept, delta, strict=True)
    ]
    assert torch.equal(after[torch.tensor(kept)], delta[torch.tensor(kept)])
    assert lost == pytest.approx(sum(float(d) ** 2 for stays, d in zip(kept, delta, strict=True) if not stays))
    if rise is not None:
        assert sum(each for each, stays in zip(rises, kept, strict=True) if stays and each > 0) <= rise
        assert total_rise(counts, threshold) <= rise


def test_the_rise_is_that_of_the_quadratic() -> None:
    """The sum over entries is what the loss 1/2 F (theta - a)^2 changes by, from the base to base + delta."""
    fisher, delta, away = draws(3)
    before, after = away.double(), away.double() + delta.double()
    wanted = (fisher.double() * (after.square() - before.square())).sum() / 2
    assert float(predicted_rise(fisher, delta, away).sum()) == pytest.approx(float(wanted), rel=1e-12)


def test_a_step_to_where_the_capability_is_at_home_is_never_vetoed() -> None:
    fisher, delta, _ = draws(4)
    counts = count_rises(fisher, delta, -delta)
    assert int(counts.sum()) == 0 and veto_threshold(counts, max_rise=0.0) == inf


def test_twice_the_length_is_four_times_the_harm() -> None:
    fisher, delta, _ = draws(5)
    once, twice = count_rises(fisher, delta), count_rises(fisher, 2 * delta)
    assert total_rise(twice) == 4 * total_rise(once)
    kept = [veto_threshold(counts, max_share=0.3) for counts in (once, twice)]
    assert kept[1] == 4 * kept[0], "a share has no scale: the same entries leave"
    assert veto_threshold(twice, max_rise=1.0) <= 4 * veto_threshold(once, max_rise=1.0)


@given(st.floats(0, exclude_min=True, allow_infinity=False))
@settings(deadline=None)
def test_bins_hold_what_their_edges_say(rise: float) -> None:
    counts = count_rises(torch.tensor([2.0], dtype=torch.float64), torch.tensor([rise**0.5], dtype=torch.float64))
    value = float(
        predicted_rise(torch.tensor([2.0], dtype=torch.float64), torch.tensor([rise**0.5], dtype=torch.float64))
    )
    if value < 2.0**-1022:
        assert int(counts.sum()) == 0
        return
    (number,) = counts.nonzero().flatten().tolist()
    assert lower_edge(number) <= value < lower_edge(number + 1)


def test_slices_add_up_to_the_whole() -> None:
    fisher, delta, away = draws(6, CHUNK + 1000)
    whole = count_rises(fisher, delta, away)
    parts = sum(
        count_rises(fisher[i : i + 999], delta[i : i + 999], away[i : i + 999]) for i in range(0, len(delta), 999)
    )
    assert torch.equal(whole, torch.as_tensor(parts))


def test_extremes() -> None:
    fisher = torch.tensor([1e38, 1.0, 1.0, 1.0])
    delta = torch.tensor([3e38, float("nan"), float("inf"), 1e-30])
    counts = count_rises(fisher, delta)
    assert int(counts.sum()) == 2, "what is not finite has no rise: it is refused by its norm"
    after = delta.clone()
    veto(after, fisher, veto_threshold(counts, max_rise=1.0))
    assert after[0] == 0 and after[1].isnan() and after[2].isinf() and after[3] == delta[3]
    assert lower_edge(BINS - 1) < inf and lower_edge(BINS + 8) == inf


def test_nothing_is_touched_without_a_veto() -> None:
    fisher, delta, _ = draws(8)
    after, tuned, base = delta.clone(), torch.rand(300), torch.rand(300)
    known = tuned.clone()
    assert veto(after, fisher, inf, tuned=tuned, base=base) == 0.0
    assert torch.equal(after, delta) and torch.equal(tuned, known)


def test_tuned_weights_become_those_of_the_base() -> None:
    fisher, _, base = draws(9)
    tuned = base + 0.1
    delta = tuned - base
    after = delta.clone()
    veto(after, fisher, veto_threshold(count_rises(fisher, delta), max_share=0.5), tuned=tuned, base=base)
    gone = after == 0
    assert gone.any() and not gone.all()
    assert torch.equal(tuned[gone], base[gone]) and torch.equal(tuned[~gone], (base + 0.1)[~gone])
