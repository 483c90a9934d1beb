"""Options of tsvm: ranks by participation, agreement and clipped outliers, streamed against literal batches."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergenode.errors import UsageError
from mergenode.methods import build_method
from tests.methods.test_sum_family import export, far, spec_of, stream, task_vectors
from tests.support import literal_sums

SHAPES = [(24, 24), (40, 16), (16, 40)]


def adaptive(vectors: Sequence[Tensor], share: float = 1.0) -> Tensor:
    """All offers of all contributions in one list, the first ones by place taken; decomposed in full."""
    offers = []
    for vector in vectors:
        u, s, vh = torch.linalg.svd(vector, full_matrices=False)
        taking_part = ceil(float(s.sum() ** 2 / s.square().sum()))
        offers += [
            ((place + 1) / taking_part, -float(s[place]), u[:, place], vh[place]) for place in range(taking_part)
        ]
    offers.sort(key=lambda offer: offer[:2])
    taken = offers[: int(share * min(vectors[0].shape))]
    left, right = (torch.stack([offer[side] for offer in taken], dim=1) for side in (2, 3))
    strengths = torch.tensor([-offer[1] for offer in taken], dtype=torch.float64)
    return literal_sums.orthonormal(left) @ torch.diag(strengths) @ literal_sums.orthonormal(right).T


def cut_back(vector: Tensor, deviations: float) -> Tensor:
    magnitudes = vector.abs().flatten().tolist()
    mean = sum(magnitudes) / len(magnitudes)
    bound = mean + deviations * (sum((value - mean) ** 2 for value in magnitudes) / len(magnitudes)) ** 0.5
    kept = [max(-bound, min(bound, value)) for value in vector.flatten().tolist()]
    return torch.tensor(kept, dtype=torch.float64).view(vector.shape)


def uneven(shape: tuple[int, int], count: int, seed: int = 0) -> list[Tensor]:
    """Some contributions of few strong directions, some of many."""
    found = []
    for number, vector in enumerate(task_vectors(shape, count, seed)):
        u, s, vh = torch.linalg.svd(vector, full_matrices=False)
        falling = s * torch.arange(1, len(s) + 1).float() ** (-0.2 - number % 3)
        found.append(u @ torch.diag(falling) @ vh)
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 5, 30])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_adaptive_ranks_streamed_equal_batch(shape: tuple[int, int], count: int, share: float) -> None:
    method, vectors = build_method("tsvm", {"rank": "adaptive", "rank_share": share}), uneven(shape, count)
    expected = adaptive([vector.double() for vector in vectors], share)
    for order in (vectors, vectors[::-1], vectors[2:] + vectors[:2]):
        assert far(export(method, stream(method, order), shape, count), expected) < 3e-6


def test_adaptive_ranks_follow_what_takes_part() -> None:
    """A contribution of one direction keeps that one; the room goes to the others."""
    narrow = torch.outer(torch.randn(24), torch.randn(24))
    broad = task_vectors((24, 24), 1)[0]
    method = build_method("tsvm", {"rank": "adaptive"})
    places = stream(method, [narrow, broad])["triplets"][1]
    assert float(places[0]) == 1.0
    assert len(places) == 1 + len(stream(method, [broad])["triplets"][1])


@given(split=st.integers(0, 8), order=st.permutations(range(8)), seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_adaptive_ranks_combine_like_a_pool(split: int, order: list[int], seed: int) -> None:
    method, vectors = build_method("tsvm", {"rank": "adaptive"}), uneven((12, 20), 8, seed)
    shuffled = [vectors[index] for index in order]
    assert method.combine is not None
    parts = (stream(method, shuffled[:split]), stream(method, shuffled[split:]))
    combined = method.combine(spec_of((12, 20)), *parts, torch.zeros(12, 20))
    pooled = stream(method, vectors)
    assert combined["triplets"].shape == pooled["triplets"].shape
    assert far(export(method, combined, (12, 20), 8), export(method, pooled, (12, 20), 8)) < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 5, 40])
@pytest.mark.parametrize("share", [0.5, 1.0, 2.0])
def test_agreement_streamed_equals_batch(shape: tuple[int, int], count: int, share: float) -> None:
    method, vectors = build_method("tsvm", {"merge": "agree", "rank_share": share}), uneven(shape, count)
    expected = literal_sums.agree([vector.double() for vector in vectors], share)
    for order in (vectors, vectors[::-1], vectors[2:] + vectors[:2]):
        assert far(export(method, stream(method, order), shape, count), expected) < 3e-6


@given(split=st.integers(0, 6), order=st.permutations(range(6)), seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_agreement_combines_like_a_pool(split: int, order: list[int], seed: int) -> None:
    method, vectors = build_method("tsvm", {"merge": "agree", "rank_share": 2.0}), uneven((12, 20), 6, seed)
    shuffled = [vectors[index] for index in order]
    assert method.combine is not None
    parts = (stream(method, shuffled[:split]), stream(method, shuffled[split:]))
    combined = method.combine(spec_of((12, 20)), *parts, torch.zeros(12, 20))
    pooled = stream(method, vectors)
    assert far(export(method, combined, (12, 20), 6), export(method, pooled, (12, 20), 6)) < 1e-6


def test_agreement_takes_contributions_of_few_directions_beside_others() -> None:
    """Blocks of unequal length: an adapter of rank 1 among full fine-tunes."""
    vectors = task_vectors((24, 16), 4)
    vectors[1] = torch.outer(torch.randn(24), torch.randn(16))
    method = build_method("tsvm", {"merge": "agree", "rank_share": 2.0})
    forwards, backwards = (export(method, stream(method, order), (24, 16), 4) for order in (vectors, vectors[::-1]))
    assert far(forwards, backwards) < 1e-6
    alone = export(method, stream(method, vectors[1:2]), (24, 16), 1)
    assert far(alone, vectors[1]) < 1e-6


@pytest.mark.parametrize("deviations", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_clipped_streamed_equals_batch(shape: tuple[int, int], deviations: float) -> None:
    method, vectors = build_method("tsvm", {"outlier_clip": deviations}), task_vectors(shape, 4)
    for vector in vectors:
        vector[3, 5] = 40 * vector.abs().max()
    expected = literal_sums.tsvm([cut_back(vector.double(), deviations) for vector in vectors])
    for order in (vectors, vectors[::-1]):
        assert far(export(method, stream(method, order), shape, 4), expected) < 3e-6


def test_outliers_reach_the_merge_without_a_limit_only() -> None:
    vectors = task_vectors((24, 24), 3)
    vectors[1][3, 5] = 40 * vectors[1].abs().max()
    plain, limited = (build_method("tsvm", options) for options in ({}, {"outlier_clip": 3.0}))
    assert float(export(limited, stream(limited, vectors), (24, 24), 3).abs().max()) < 0.5 * float(
        export(plain, stream(plain, vectors), (24, 24), 3).abs().max()
    )


def test_vectors_are_never_clipped() -> None:
    vectors = task_vectors((40,), 3)
    vectors[0][7] = 100.0
    plain, limited = (build_method("tsvm", options) for options in ({}, {"outlier_clip": 0.0}))
    assert torch.equal(
        export(plain, stream(plain, vectors), (40,), 3), export(limited, stream(limited, vectors), (40,), 3)
    )


@pytest.mark.parametrize(
    "options",
    [
        {"rank": "all"},
        {"outlier_clip": -1.0},
        {"outlier_clip": float("inf")},
        {"outlier_clip": True},
        {"merge": "mean"},
    ],
)
def test_options_that_it_does_not_take(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        build_method("tsvm", options)


def test_agreement_needs_equal_ranks() -> None:
    with pytest.raises(UsageError, match="'rank' is 'adaptive' where 'merge' is 'agree'"):
        build_method("tsvm", {"merge": "agree", "rank": "adaptive"})


@pytest.mark.parametrize(("merge", "share"), [("decorrelate", 1.5), ("agree", 2.5)])
def test_each_way_to_merge_has_its_largest_share(merge: str, share: float) -> None:
    with pytest.raises(UsageError, match=f"'rank_share' is {share}"):
        build_method("tsvm", {"merge": merge, "rank_share": share})
