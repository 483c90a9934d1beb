"""What fold and export of the sum family allocate, against what they state."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

MEASURE = """
import json, re, sys
import torch
torch.set_num_threads(1)
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

def measure(name, options, m, n):
    method, spec = build_method(name, options), TensorSpec("layer.weight", DType.F32, (m, n))
    draw = torch.Generator().manual_seed(0)
    base, first, second, third = (torch.randn(m, n, generator=draw) for _ in range(4))
    statistics = method.fold(spec, {}, base, Incoming(first)).statistics
    statistics = method.fold(spec, statistics, base, Incoming(second)).statistics
    folding, folded = peak(lambda: method.fold(spec, statistics, base, Incoming(third)))
    folding -= sum(tensor.nbytes for tensor in folded.statistics.values())
    totals = {"count": 3.0, "weight_sum": 3.0}
    if not method.exports_whole(spec):
        return folding, method.working_bytes(spec), 0, 0  # exported slice by slice
    exporting, weights = peak(lambda: method.export(spec, folded.statistics, base, totals))
    return folding, method.working_bytes(spec), exporting - weights.nbytes, method.bytes_to_export(spec)

for case in json.loads(sys.argv[1]):
    measure(case[0], case[1], 400, 400)  # libraries allocate their own buffers once
for case in json.loads(sys.argv[1]):
    print(*measure(*case))
"""

CASES: list[tuple[str, dict[str, object], int, int]] = [
    ("iso", {}, 1280, 1280),
    ("iso", {}, 640, 2560),
    ("tsvm", {}, 1280, 1280),
    ("tsvm", {}, 2560, 640),
    ("tsvm", {"merge": "agree", "rank_share": 2.0}, 640, 640),
    ("tsvm", {"merge": "agree", "rank_share": 2.0}, 320, 1280),
    ("aswudi", {}, 1280, 1280),
    ("aswudi", {}, 512, 2048),
    ("aswudi", {"width_limit": 1000}, 512, 2048),
    ("swudi", {"time": 1e9, "ratio": 1.0}, 1280, 1280),
    ("ties", {}, 2048, 2048),
    ("dare", {}, 2048, 2048),
    ("magmax", {}, 2048, 2048),
]


@pytest.mark.slow
def test_working_memory_stays_below_what_is_stated() -> None:
    """And what is stated is no wild guess: where it matters, most of it is used."""
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
        folding, stated_fold, exporting, stated_export = map(float, line.split())
        assert folding <= stated_fold, (case, folding, stated_fold)
        assert exporting <= stated_export, (case, exporting, stated_export)
        assert exporting >= 0.2 * stated_export, (case, exporting, stated_export)
