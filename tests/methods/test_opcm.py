"""OPCM beyond the paper: options, reports, weights, memory, damaged statistics."""

from __future__ import annotations

import json
import subprocess
import sys
from math import sqrt
from pathlib import Path

import pytest
import torch
from scipy.linalg import LinAlgError

from mergenode.errors import FatalError
from mergenode.methods import build_method, opcm
from mergenode.methods.contract import Incoming
from mergenode.types import DType, TensorSpec
from tests.support.method_runs import Merge, merge_all, random_models, spec_of, weight

REPOSITORY = Path(__file__).parents[2]


def test_a_fold_reports_how_much_of_the_spectrum_is_taken() -> None:
    base, tuned = random_models(2)
    merge = merge_all(build_method("opcm", {}), base, tuned[:1])
    name = "block.0.square.weight"
    assert merge.observed[name] == {"rank": 0.0, "effective_rank": 0.0, "full_rank": 24.0, "fallback": 0.0}
    values = torch.linalg.svdvals(merge.sums[name].double())
    share = values / values.sum()
    merge.fold(tuned[1])
    observed = merge.observed[name]
    assert observed["effective_rank"] == pytest.approx(float(torch.exp(-(share * share.log()).sum())), rel=1e-6)
    assert observed["rank"] == float((share.cumsum(0) > 0.5).float().argmax())
    assert (observed["full_rank"], observed["fallback"]) == (24.0, 0.0)
    assert merge.observed["block.0.up.bias"] == {}


def test_excluded_weights_are_summed_and_included_ones_projected() -> None:
    base, tuned = random_models(3)
    plain = merge_all(build_method("task_arithmetic", {}), base, tuned).sums
    method = build_method("opcm", {"exclude": ["*square*", "*in_proj*"], "include": ["embed_tokens.*"]})
    merge = merge_all(method, base, tuned)
    changed = {name for name in base if not torch.equal(merge.sums[name], plain[name])}
    assert changed == {"block.0.up.weight", "block.0.down.weight", "embed_tokens.weight"}
    assert {name for name in base if not method.elementwise(spec_of(name, base[name]))} == changed


def test_weights_enter_norms_and_sums() -> None:
    """A contribution of weight w is the contribution of task vector w tau."""
    base, tuned = random_models(2)
    shares = (2.0, 0.5)
    merge = Merge(build_method("opcm", {}), base)
    stretched = []
    for model, share in zip(tuned, shares, strict=True):
        merge.fold(model, share)
        stretched.append({name: base[name] + share * (model[name] - base[name]) for name in base})
    expected = merge_all(build_method("opcm", {}), base, stretched)
    assert merge.totals["norm_sum"] == pytest.approx(expected.totals["norm_sum"], rel=1e-6)
    assert merge.totals["weight_sum"] == 2.5
    for name, tensor in expected.export().items():
        assert torch.allclose(merge.export()[name], tensor, rtol=1e-5, atol=1e-5)


def test_norms_are_those_of_the_whole_model() -> None:
    base, tuned = random_models(3)
    merge = merge_all(build_method("opcm", {}), base, tuned)
    norms = [sqrt(sum((m[n] - base[n]).double().square().sum().item() for n in base)) for m in tuned]
    assert merge.totals["norm_sum"] == pytest.approx(sum(norms), rel=1e-12)
    assert merge.totals["merge_sq"] == pytest.approx(
        sum(tensor.double().square().sum().item() for tensor in merge.sums.values()), rel=1e-12
    )


def test_adapters_of_low_rank_leave_room() -> None:
    """Rank-4 deltas: the protected block has to fit into four directions."""
    base = {"layer.weight": weight(40, 30, seed=1)}
    tuned = [
        {"layer.weight": base["layer.weight"] + weight(40, 4, seed=s) @ weight(4, 30, seed=s + 50)} for s in (2, 3)
    ]
    merge = Merge(build_method("opcm", {}), base)
    for model in tuned:
        merge.fold(model, dense=False)
    assert 0 < merge.observed["layer.weight"]["rank"] < 4
    assert 1 < merge.observed["layer.weight"]["effective_rank"] < 4.1
    assert merge.last_sums["layer.weight"]["kept_sq"] > 0.5 * merge.last_sums["layer.weight"]["delta_sq"]


def test_damaged_statistics_end_the_node_with_a_hint() -> None:
    spec = TensorSpec("layer.weight", DType.F32, (4, 4))
    damaged = {"sum": torch.full((4, 4), float("nan"))}
    with pytest.raises(FatalError, match=r"'layer\.weight' is not finite") as caught:
        build_method("opcm", {}).fold(spec, damaged, torch.zeros(4, 4), Incoming(torch.ones(4, 4)))
    assert "verify" in caught.value.hint


def test_a_sum_without_decomposition_ends_the_node_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise LinAlgError("no convergence")

    monkeypatch.setitem(opcm.__globals__, "project", refuse)
    spec = TensorSpec("layer.weight", DType.F32, (4, 4))
    with pytest.raises(FatalError, match=r"'layer\.weight' \[4, 4\] cannot be decomposed: no convergence"):
        build_method("opcm", {}).fold(spec, {"sum": torch.eye(4)}, torch.zeros(4, 4), Incoming(torch.ones(4, 4)))


MEASURE = """
import json, re, sys
import torch
torch.set_num_threads(1)
from mergenode.maths import subspaces
from mergenode.methods import build_method
from mergenode.methods.contract import Incoming
from mergenode.types import DType, TensorSpec

def kilobytes(key):
    return int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

def fold(m, n, variant, alpha, certificate):
    subspaces.CERTIFICATE = certificate
    method = build_method("opcm", {"alpha": alpha, "variant": variant})
    draw = torch.Generator().manual_seed(0)
    base, tuned, delta = (torch.randn(m, n, generator=draw) for _ in range(3))
    spec = TensorSpec("layer.weight", DType.F32, (m, n))
    open("/proc/self/clear_refs", "w").write("5")
    before = kilobytes("VmRSS")
    folded = method.fold(spec, {"first": tuned}, base, Incoming(delta))
    used = (kilobytes("VmHWM") - before) * 1024 - folded.statistics["sum"].nbytes
    return used, method.working_bytes(spec), folded.observed["fallback"]

fold(400, 400, "paper", 0.5, 3e-6)  # libraries allocate their own buffers once
for case in json.loads(sys.argv[1]):
    print(*fold(*case))
"""

CASES = [
    (1280, 1280, "block", 0.5, 3e-6),
    (1280, 1280, "block", 0.95, 3e-6),
    (1280, 1280, "paper", 0.5, 3e-6),
    (3072, 768, "diagonal", 0.5, 3e-6),
    (640, 2560, "diagonal", 0.5, -1.0),
]


@pytest.mark.slow
def test_working_memory_stays_below_what_is_stated() -> None:
    """Peak resident memory of one process per case list; every large block is mapped, so freeing it shows."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peak memory is read from /proc")
    environment = {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "PYTHONPATH": str(REPOSITORY),
    }
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps(CASES)], capture_output=True, text=True, check=True, env=environment
    )
    for case, line in zip(CASES, run.stdout.splitlines(), strict=True):
        used, stated, fallback = map(float, line.split())
        assert used <= stated, case
        assert used > 0.2 * stated, case  # the bound says something
        assert bool(fallback) == (case[-1] < 0)


@pytest.mark.parametrize("shape", [(4096, 4096), (11008, 4096), (1024, 4096), (896, 4864)])
def test_a_whole_fold_fits_into_ten_of_its_tensors(shape: tuple[int, int]) -> None:
    """Base, delta, old and new statistics included."""
    spec = TensorSpec("layer.weight", DType.BF16, shape)
    assert build_method("opcm", {}).working_bytes(spec) + 4 * 4 * spec.numel <= 10 * 4 * spec.numel + (64 << 20)
