"""Coin flips: the right share, no structure, and always the same."""

from __future__ import annotations

import pytest
import torch

from mergenode.maths.random_mask import BLOCK, random_mask

GOLDEN_FIRST = [0, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 1]
GOLDEN_LATER = [0, 0, 0, 0, 0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 0, 0]


def test_the_flips_are_those_of_all_times() -> None:
    """Golden values: what was folded once must be found again by every later release."""
    assert random_mask(b"key", 0, 16, 0.5).int().tolist() == GOLDEN_FIRST
    assert random_mask(b"key", 3, 16, 0.3).int().tolist() == GOLDEN_LATER


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_share_is_kept(share: float) -> None:
    mean = float(random_mask(b"a", 0, BLOCK, share).double().mean())
    assert abs(mean - share) <= 5 * (share * (1 - share) / BLOCK) ** 0.5


def test_a_shorter_mask_is_a_prefix() -> None:
    assert torch.equal(random_mask(b"a", 7, 1000, 0.3), random_mask(b"a", 7, BLOCK, 0.3)[:1000])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize(("start", "size"), [(0, 5), (1, 999), (70001, 3), (BLOCK - 64, 64), (BLOCK, 0)])
def test_a_mask_from_a_place_on_is_that_part_of_the_block(share: float, start: int, size: int) -> None:
    whole = random_mask(b"a", 7, BLOCK, share)
    assert torch.equal(random_mask(b"a", 7, size, share, start), whole[start : start + size])


def test_masks_are_independent_of_each_other_and_of_the_place() -> None:
    """Correlations between blocks, keys, and neighbours at every power of two: within five standard deviations."""
    plain = random_mask(b"a", 0, BLOCK, 0.5).double() * 2 - 1
    bound = 5 / BLOCK**0.5
    for other in (random_mask(b"a", 1, BLOCK, 0.5), random_mask(b"b", 0, BLOCK, 0.5)):
        assert abs(float((plain * (other.double() * 2 - 1)).mean())) < bound
    for power in range(16):
        assert abs(float((plain[: -(1 << power)] * plain[1 << power :]).mean())) < 1.5 * bound


def test_edges_between_bytes_are_drawn_as_finely() -> None:
    """A share of k and a bit 256ths: what one byte cannot say, four more do."""
    share = (100 + 1 / 3) / 256
    counts = [int(random_mask(b"a", block, BLOCK, share).sum()) for block in range(64)]
    drawn = 64 * BLOCK
    assert abs(sum(counts) - share * drawn) <= 5 * (share * (1 - share) * drawn) ** 0.5
    lower, upper = (random_mask(b"a", 5, BLOCK, edge / 256) for edge in (100, 101))
    mask = random_mask(b"a", 5, BLOCK, share)
    assert bool((lower <= mask).all()) and bool((mask <= upper).all())
    assert int(lower.sum()) < int(mask.sum()) < int(upper.sum())


@pytest.mark.parametrize(
    ("size", "share", "start"), [(BLOCK + 1, 0.5, 0), (-1, 0.5, 0), (3, 1.5, 0), (3, -0.1, 0), (3, 0.5, BLOCK - 2)]
)
def test_what_cannot_be_drawn(size: int, share: float, start: int) -> None:
    with pytest.raises(ValueError, match="no mask"):
        random_mask(b"a", 0, size, share, start)
