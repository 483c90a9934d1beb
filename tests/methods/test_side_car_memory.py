"""What ``widen``, ``fisher``, ``regmean`` and the check of a Gram allocate, against what they state."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

MEASURE = """
import re
import torch
torch.set_num_threads(1)
from mergenode.adapters.checkpoints.side_cars import check_bytes, check_gram
from mergenode.methods import build_method
from mergenode.methods.contract import Incoming
from mergenode.types import DType, TensorSpec

def kilobytes(key):
    return int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

def peak(action):
    open("/proc/self/clear_refs", "w").write("5")
    before = kilobytes("VmRSS")
    result = action()
    return (kilobytes("VmHWM") - before) * 1024, result

def measure(name, m, n, dense):
    method, spec = build_method(name, {}), TensorSpec("layer.weight", DType.F32, (m, n))
    draw = torch.Generator().manual_seed(0)
    base, *deltas = (torch.randn(m, n, generator=draw) for _ in range(4))
    inputs = torch.randn(2 * n, n, generator=draw)
    sides = {
        "fisher": {"fisher": torch.rand(m, n, generator=draw), "fisher_rms": torch.tensor(0.5)},
        "regmean": {"gram": inputs.T @ inputs / len(inputs)},
    }
    side, statistics = sides.get(name, {}), {}
    arrived = [Incoming(delta, base + delta if dense else None, side=side) for delta in deltas]
    for one in arrived[:1] if dense else arrived[:2]:
        statistics = method.fold(spec, statistics, base, one).statistics
    folding, folded = peak(lambda: method.fold(spec, statistics, base, arrived[2]))
    folding -= sum(tensor.nbytes for tensor in folded.statistics.values())
    stated = method.working_bytes(spec)
    if not method.exports_whole(spec):
        return folding, 0, stated
    exporting, weights = peak(lambda: method.export(spec, folded.statistics, base, {"count": 3.0, "weight_sum": 3.0}))
    return folding, exporting - weights.nbytes, stated

CASES = [(name, *shape, dense) for name in ("widen", "fisher", "regmean")
         for shape in ((1280, 1280), (640, 2560), (2560, 640)) for dense in (True, False)]
for name in ("widen", "fisher", "regmean"):
    measure(name, 400, 400, False)  # libraries allocate their own buffers once
for case in CASES:
    print(*case, *measure(*case))
rows = torch.randn(3000, 1500)
gram = rows.T @ rows
checking, _ = peak(lambda: check_gram(gram, lambda: ""))
print("check", 1500, 1500, False, checking, 0, check_bytes(1500))
"""


@pytest.mark.slow
def test_working_memory_stays_below_what_is_stated_and_near_it() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peak memory is read from /proc")
    environment = {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "PYTHONPATH": str(REPOSITORY),
    }
    run = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, env=environment)
    lines = run.stdout.splitlines()
    assert len(lines) == 19
    slack = 1 << 20
    for line in lines:
        *_, folding, exporting, stated = line.split()
        assert max(float(folding), float(exporting)) <= float(stated) + slack, line
