"""One thread wherever numbers are summed, and the old limits afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from mergenode.maths.projection import Variant
from mergenode.maths.threads import one_thread

REPOSITORY = Path(__file__).parents[2]


def limits() -> dict[str, int]:
    """Threads of every pool of this process, as the calling thread sees them."""
    return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()} | {"torch": torch.get_num_threads()}


def in_a_new_thread() -> dict[str, int]:
    found: list[dict[str, int]] = []
    thread = threading.Thread(target=lambda: found.append(limits()))
    thread.start()
    thread.join()
    return found[0]


@pytest.fixture(autouse=True)
def two_threads_outside() -> Iterator[None]:
    before = torch.get_num_threads()
    with threadpool_limits(limits=2):
        torch.set_num_threads(2)
        yield
    torch.set_num_threads(before)


def test_every_pool_has_one_thread_inside_and_what_it_had_outside() -> None:
    before = limits()
    assert set(before.values()) == {2}
    assert any("blas" in path for path in before), "scipy brings a BLAS of its own"
    with one_thread():
        assert set(limits().values()) == {1}
    assert limits() == before


def test_threads_started_inside_are_covered() -> None:
    with one_thread():
        inside = in_a_new_thread()
    assert {number for path, number in inside.items() if "openblas" in path or path == "torch"} == {1}


def test_an_exception_restores_the_limits() -> None:
    before = limits()
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert limits() == before


def test_a_nested_block_does_not_end_the_outer_one() -> None:
    before = limits()
    with one_thread():
        with one_thread():
            pass
        assert set(limits().values()) == {1}
    assert limits() == before


def test_blocks_that_overlap_keep_the_limit_until_the_last_one_ends() -> None:
    """The block that began first ends first: restoring what each one found would undo the other's limit."""
    before = limits()
    began, end = threading.Event(), threading.Event()

    def early() -> None:
        with one_thread():
            began.set()
            end.wait()

    thread = threading.Thread(target=early)
    thread.start()
    began.wait()
    with one_thread():
        end.set()
        thread.join()
        assert set(limits().values()) == {1}
    assert limits() == before


BITS = """
import hashlib, sys, threading
import torch
from mergenode.maths.projection import Variant, project
from mergenode.maths.threads import one_thread

draw = torch.Generator().manual_seed(0)
accumulator, delta = torch.randn(640, 640, generator=draw), torch.randn(640, 640, generator=draw)

def bits():
    for variant in Variant:
        kept = project(accumulator, delta, alpha=0.5, variant=variant).kept
        print(variant.value, hashlib.sha256(kept.numpy().tobytes()).hexdigest())

with one_thread():
    bits()
    thread = threading.Thread(target=bits)
    thread.start()
    thread.join()
"""


def printed_with(threads: str) -> list[str]:
    environment = {
        **os.environ,
        "OPENBLAS_NUM_THREADS": threads,
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "PYTHONPATH": str(REPOSITORY),
    }
    command = [sys.executable, "-c", BITS]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.splitlines()


@pytest.mark.slow
def test_the_bits_of_a_projection_do_not_depend_on_the_thread_count() -> None:
    alone, together = printed_with("1"), printed_with("2")
    assert len(set(alone)) == len(Variant)
    assert alone == together
