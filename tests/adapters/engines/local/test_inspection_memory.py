"""Memory of an inspection is that of its largest tensor, however many there are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MEASURE = """
import re, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from safetensors.torch import save_file
from mergenode.adapters.checkpoints.base import describe_base
from mergenode.adapters.engines.local.inspection import inspect

def kilobytes(key):
    return int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

folder = Path(sys.argv[1])
one = torch.randn(512, 1024, generator=torch.Generator().manual_seed(0)).bfloat16()
for matrices in (2, 4, 16):  # the first one lets libraries allocate their own buffers
    for number, name in enumerate(("base", "tuned", "merge")):
        tensors = {f"layers.{layer}.w.weight": one * (1 + 0.01 * number) for layer in range(matrices)}
        save_file(tensors, folder / f"{name}.safetensors")
        del tensors
    paths = [folder / f"{name}.safetensors" for name in ("base", "tuned", "merge")]
    base = describe_base(paths[0])
    open("/proc/self/clear_refs", "w").write("5")
    before = kilobytes("VmRSS")
    found = inspect(paths[0], paths[1], merge_path=paths[2], base=base, frozen=["*"])
    assert found.spectra.matrices == matrices
    print((kilobytes("VmHWM") - before) >> 10)
"""


@pytest.mark.slow
def test_more_tensors_take_no_more_memory(tmp_path: Path) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peak memory is read from /proc")
    environment = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "PYTHONPATH": os.getcwd()}
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=False, env=environment
    )
    assert run.returncode == 0, run.stderr
    _, some, many = map(int, run.stdout.split())
    model = 16 * 512 * 1024 * 2 >> 20
    assert max(some, many) <= 2 * model, "three steps at most are in flight"
    assert many <= some + 8, (some, many)
