"""One test per published claim about OPCM (arXiv 2501.09522 and its released code), plus the golden values."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch

from mergenode.maths.norms import inner, squared_norm
from mergenode.maths.rank import leading_rank
from mergenode.methods import build_method
from tests.support.literal_opcm import literal_merge
from tests.support.method_runs import Model, merge_all, random_models, weight

FIRST = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0]))
SECOND = torch.arange(1.0, 17.0).reshape(4, 4)
VARIANTS = ["block", "block_orthogonal", "diagonal", "paper"]


def one_matrix(*deltas: torch.Tensor) -> tuple[Model, list[Model]]:
    base = {"layer.weight": torch.zeros_like(deltas[0])}
    return base, [{"layer.weight": delta} for delta in deltas]


GOLDEN = [
    ("block", 0.5, 40.459857, 1.832613, [2.18268, 1.09134, 1.63701, 2.18268], [7.09370, 7.63937, 8.18504, 9.27637]),
    ("diagonal", 0.5, 33.346664, 1.510423, [2.64826, 1.32413, 1.98620, 2.64826], [8.60686, 9.26892, 9.93099, 0.66207]),
    ("paper", 0.3, 28.425341, 1.287514, [3.10676, 0, 0, 0], [0, 10.87367, 11.65036, 0.77669]),  # r' = 1
    ("paper", 0.5, 19.974984, 0.904759, [4.42107, 0, 0, 0], [0, 0, 16.57901, 1.10527]),  # r' = 2
]


@pytest.mark.parametrize(("variant", "alpha", "norm", "scaling", "row_0", "row_3"), GOLDEN)
def test_golden_values(
    variant: str, alpha: float, norm: float, scaling: float, row_0: list[float], row_3: list[float]
) -> None:
    """tau_1 = diag(4, 3, 2, 1), tau_2 = 1..16 by rows, base 0: U = V = I, everything can be done by hand."""
    base, tuned = one_matrix(FIRST, SECOND)
    merge = merge_all(build_method("opcm", {"alpha": alpha, "variant": variant}), base, tuned)
    mean_norm = (sqrt(30) + sqrt(1496)) / 2
    assert mean_norm == pytest.approx(22.077692, abs=1e-6)
    assert merge.totals["norm_sum"] / merge.totals["count"] == pytest.approx(mean_norm, rel=1e-7)
    assert sqrt(merge.totals["merge_sq"]) == pytest.approx(norm, abs=1e-5)
    assert sqrt(merge.totals["merge_sq"]) / mean_norm == pytest.approx(scaling, abs=1e-6)
    merged = merge.export()["layer.weight"]
    assert merged[0].tolist() == pytest.approx(row_0, abs=1e-5)
    assert merged[3].tolist() == pytest.approx(row_3, abs=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_algorithm_1_first_model_is_taken_verbatim(variant: str) -> None:
    base, tuned = random_models(1)
    merged = merge_all(build_method("opcm", {"variant": variant}), base, tuned).export()
    for name, expected in tuned[0].items():
        assert torch.equal(merged[name], expected.float())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("count", [2, 5])
def test_algorithm_1_lines_13_to_15_norm_of_the_merge_is_the_mean_norm(variant: str, count: int) -> None:
    base, tuned = random_models(count)
    merged = merge_all(build_method("opcm", {"variant": variant}), base, tuned).export()
    norms = [sqrt(sum(squared_norm(model[name].double() - base[name].double()) for name in base)) for model in tuned]
    moved = sqrt(sum(squared_norm(merged[name].double() - base[name].double()) for name in base))
    assert moved == pytest.approx(np.mean(norms), rel=1e-6)


@pytest.mark.parametrize("variant", ["block", "block_orthogonal"])
@pytest.mark.parametrize("shape", [(24, 24), (40, 16), (16, 40)])
def test_unscaled_sum_equals_the_published_recursion(variant: str, shape: tuple[int, int]) -> None:
    """theta_t = theta_0 + (lambda_(t-1) tau^m_(t-1) + P(tau_t)) / lambda_t telescopes; five folds."""
    generator = torch.Generator().manual_seed(9)
    deltas = [torch.randn(*shape, generator=generator) for _ in range(5)]
    base, tuned = one_matrix(*deltas)
    merged = merge_all(build_method("opcm", {"variant": variant}), base, tuned).export()["layer.weight"]
    expected = literal_merge([delta.double().numpy() for delta in deltas], 0.5, variant)
    assert np.linalg.norm(merged.double().numpy() - expected) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("variant", ["block_orthogonal", "diagonal", "paper"])
def test_theorem_what_enters_is_orthogonal_to_the_merge(variant: str) -> None:
    """The paper's theorem needs i != j: it holds where the diagonal (or its sum) is dropped, even when correlated."""
    shared = torch.randn(30, 20, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(30, 20, generator=torch.Generator().manual_seed(2))
    method = build_method("opcm", {"variant": variant})
    before = merge_all(method, *one_matrix(shared)).sums["layer.weight"]
    after = merge_all(method, *one_matrix(shared, shared + 0.5 * noise)).sums["layer.weight"]
    entered = after - before
    assert abs(inner(entered, before)) < 1e-6 * sqrt(squared_norm(entered) * squared_norm(before))


def test_released_code_does_not_keep_the_theorem() -> None:
    shared = torch.randn(30, 20, generator=torch.Generator().manual_seed(1))
    method = build_method("opcm", {"variant": "block"})
    before = merge_all(method, *one_matrix(shared)).sums["layer.weight"]
    entered = merge_all(method, *one_matrix(shared, shared)).sums["layer.weight"] - before
    cosine = inner(entered, before) / sqrt(squared_norm(entered) * squared_norm(before))
    assert cosine > 0.3


@pytest.mark.parametrize("variant", ["diagonal", "paper"])
def test_the_same_model_twice_adds_nothing(variant: str) -> None:
    delta = torch.randn(30, 20, generator=torch.Generator().manual_seed(3))
    method = build_method("opcm", {"variant": variant})
    once = merge_all(method, *one_matrix(delta)).sums["layer.weight"]
    twice = merge_all(method, *one_matrix(delta, delta)).sums["layer.weight"]
    assert torch.linalg.vector_norm(twice - once) < 1e-5 * torch.linalg.vector_norm(once)


def test_the_same_model_twice_adds_its_unprotected_part_under_block() -> None:
    delta = torch.randn(60, 60, generator=torch.Generator().manual_seed(3))
    method = build_method("opcm", {"variant": "block"})
    once = merge_all(method, *one_matrix(delta)).sums["layer.weight"]
    entered = merge_all(method, *one_matrix(delta, delta)).sums["layer.weight"] - once
    assert 0.4 < sqrt(squared_norm(entered) / squared_norm(delta)) < 0.6


@pytest.mark.parametrize("variant", VARIANTS)
def test_orthogonal_changes_of_basis_commute_with_the_fold(variant: str) -> None:
    generator = torch.Generator().manual_seed(4)
    deltas = [torch.randn(18, 12, generator=generator, dtype=torch.float64) for _ in range(3)]
    left = torch.linalg.qr(torch.randn(18, 18, generator=generator, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64))[0]
    method = build_method("opcm", {"variant": variant})
    plain = merge_all(method, *one_matrix(*deltas)).export()["layer.weight"]
    turned = merge_all(method, *one_matrix(*(left @ d @ right for d in deltas))).export()["layer.weight"]
    assert torch.allclose(left @ plain @ right, turned, atol=1e-8)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("factor", [2.0**-20, 2.0**10])
def test_scaling_all_models_scales_the_merge(variant: str, factor: float) -> None:
    generator = torch.Generator().manual_seed(5)
    deltas = [torch.randn(14, 10, generator=generator) for _ in range(3)]
    method = build_method("opcm", {"variant": variant})
    plain = merge_all(method, *one_matrix(*deltas)).export()["layer.weight"]
    scaled = merge_all(method, *one_matrix(*(d * factor for d in deltas))).export()["layer.weight"]
    assert torch.allclose(plain * factor, scaled, rtol=1e-4, atol=1e-5 * factor)


def test_alpha_zero_is_the_normalised_plain_sum() -> None:
    base, tuned = random_models(4)
    opcm = merge_all(build_method("opcm", {"alpha": 0.0, "variant": "block"}), base, tuned)
    plain = merge_all(build_method("task_arithmetic", {}), base, tuned)
    for name in base:
        assert torch.allclose(opcm.sums[name], plain.sums[name], rtol=1e-6, atol=1e-7)


def test_a_larger_alpha_is_more_conservative() -> None:
    generator = torch.Generator().manual_seed(6)
    deltas = [torch.randn(40, 30, generator=generator) for _ in range(2)]
    kept = []
    for alpha in (0.0, 0.2, 0.4, 0.6, 0.8, 0.95):
        merge = merge_all(build_method("opcm", {"alpha": alpha}), *one_matrix(*deltas))
        kept.append(merge.last_sums["layer.weight"]["kept_sq"])
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] < 0.5 * kept[0]


def test_energy_kept_of_a_gaussian_by_variant() -> None:
    """192 x 192: V1 keeps 53%, V2 92.1%, V3 92.5% of a fresh expert's energy."""
    generator = torch.Generator().manual_seed(7)
    deltas = [torch.randn(192, 192, generator=generator) for _ in range(2)]
    share = {}
    for variant in ("block", "diagonal", "paper"):
        sums = merge_all(build_method("opcm", {"variant": variant}), *one_matrix(*deltas)).last_sums["layer.weight"]
        share[variant] = sums["kept_sq"] / sums["delta_sq"]
    assert share["block"] == pytest.approx(0.925, abs=0.01)
    assert share["diagonal"] == pytest.approx(0.921, abs=0.01)
    assert share["paper"] == pytest.approx(0.53, abs=0.02)


@pytest.mark.parametrize(("shape", "rank"), [((768, 768), 212), ((3072, 768), 301)])
def test_directions_protected_in_a_gaussian(shape: tuple[int, int], rank: int) -> None:
    """alpha = 0.5 protects 28% of the directions of a square Gaussian and 39% of a 4:1 one."""
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(8))
    values = torch.linalg.eigvalsh(matrix.mT.double() @ matrix.double()).flip(0).clamp(min=0).sqrt()
    assert leading_rank(values, 0.5) == pytest.approx(rank, abs=3)


def test_scaling_grows_like_the_square_root_of_the_count() -> None:
    """Near-orthogonal experts of equal norm: lambda_t is about sqrt(t)."""
    generator = torch.Generator().manual_seed(10)
    deltas = [torch.randn(128, 128, generator=generator) for _ in range(5)]
    totals = merge_all(build_method("opcm", {}), *one_matrix(*deltas)).totals
    scaling = sqrt(totals["merge_sq"]) / (totals["norm_sum"] / totals["count"])
    assert scaling == pytest.approx(sqrt(5), rel=0.05)


@pytest.mark.parametrize("variant", VARIANTS)
def test_order_matters(variant: str) -> None:
    base, tuned = random_models(3)
    method = build_method("opcm", {"variant": variant})
    forwards, backwards = merge_all(method, base, tuned), merge_all(method, base, tuned[::-1])
    assert not torch.allclose(forwards.sums["block.0.up.weight"], backwards.sums["block.0.up.weight"], rtol=1e-3)
    assert not method.commutative


def test_parameters_on_a_container_module_do_not_decay() -> None:
    """The released code forgets them and shrinks the first expert's value; here they are summed like a bias."""
    base, tuned = random_models(4)
    merge = merge_all(build_method("opcm", {}), base, tuned)
    expected = sum((model["class_embedding"] - base["class_embedding"]).double() for model in tuned)
    assert torch.allclose(merge.sums["class_embedding"].double(), expected, atol=1e-6)


def test_only_linear_weights_are_projected() -> None:
    base, tuned = random_models(3)
    merge = merge_all(build_method("opcm", {}), base, tuned)
    plain = merge_all(build_method("task_arithmetic", {}), base, tuned)
    changed = {name for name in base if not torch.equal(merge.sums[name], plain.sums[name])}
    assert changed == {"block.0.up.weight", "block.0.down.weight", "block.0.square.weight", "attn.in_proj_weight"}


@pytest.mark.parametrize("variant", ["block", "block_orthogonal"])
def test_two_runs_that_differ_by_a_tremor_stay_together(variant: str) -> None:
    """60 folds in float64: a change of 1e-12 of the first delta stays of that order."""
    generator = torch.Generator().manual_seed(11)
    deltas = [torch.randn(16, 12, generator=generator, dtype=torch.float64) for _ in range(60)]
    nudge = 1e-12 * torch.randn(16, 12, generator=generator, dtype=torch.float64)
    method = build_method("opcm", {"variant": variant})
    first = merge_all(method, *one_matrix(*deltas)).export()["layer.weight"]
    second = merge_all(method, *one_matrix(deltas[0] + nudge, *deltas[1:])).export()["layer.weight"]
    assert (first - second).norm() < 1e-9 * first.norm()


def test_the_diagonal_variant_is_chaotic() -> None:
    """Why it is not the default: the same change has grown by six orders of magnitude after 30 folds."""
    generator = torch.Generator().manual_seed(11)
    deltas = [torch.randn(48, 48, generator=generator, dtype=torch.float64) for _ in range(30)]
    nudge = 1e-12 * torch.randn(48, 48, generator=generator, dtype=torch.float64)
    method = build_method("opcm", {"variant": "diagonal"})
    first = merge_all(method, *one_matrix(*deltas)).export()["layer.weight"]
    second = merge_all(method, *one_matrix(deltas[0] + nudge, *deltas[1:])).export()["layer.weight"]
    assert (first - second).norm() > 1e-6 * first.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_inside_one_dtype_are_merged_in_its_accumulator(dtype: torch.dtype) -> None:
    delta = weight(20, 14, seed=12).to(dtype)
    merge = merge_all(build_method("opcm", {}), *one_matrix(delta, delta * 0.5))
    assert merge.sums["layer.weight"].dtype == dtype
    assert merge.export()["layer.weight"].dtype == dtype
