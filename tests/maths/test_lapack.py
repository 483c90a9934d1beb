"""The foreign routines against numpy, what they refuse, and that other threads run meanwhile."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.linalg import LinAlgError
from scipy.linalg import blas, cython_lapack
from scipy.linalg import lapack as scipy_lapack

from mergenode.maths import lapack
from mergenode.maths.gram import gram_spectrum
from mergenode.maths.lapack import (
    add_gram_lower,
    foreign_routine,
    inverse_iteration,
    reduce_to_tridiagonal,
    tridiagonal_eigenvalues,
    tridiagonal_eigenvectors,
)

Call = Callable[[], object]


def symmetric(n: int, seed: int = 0) -> np.ndarray:
    square = np.random.default_rng(seed).standard_normal((n, n))
    return np.asfortranarray(square + square.T)


def dense(diagonal: np.ndarray, off_diagonal: np.ndarray) -> np.ndarray:
    return np.diag(diagonal) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1)


def reflected(factors: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Q, one reflector after the other."""
    n = len(factors)
    product = np.eye(n)
    for i, scale in enumerate(scales):
        vector = np.concatenate([np.zeros(i + 1), [1.0], factors[i + 2 :, i]])
        product = product @ (np.eye(n) - scale * np.outer(vector, vector))
    return product


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 20), k=st.integers(1, 20), seed=st.integers(0, 999))
def test_a_gram_matrix_is_added_to_the_lower_triangle(n: int, k: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    panel, gram = np.asfortranarray(draw.standard_normal((n, k))), np.asfortranarray(draw.standard_normal((n, n)))
    expected = np.tril(gram + panel @ panel.T) + np.triu(gram, 1)
    add_gram_lower(gram, panel)
    assert np.allclose(gram, expected, atol=1e-13)


@pytest.mark.parametrize("n", [1, 2, 3, 17, 70])
def test_a_reduction_gives_the_matrix_back(n: int) -> None:
    """70 is more than one block of reflectors; what lies above the diagonal is never looked at."""
    matrix = symmetric(n)
    given_part = np.asfortranarray(np.tril(matrix) + np.triu(np.full((n, n), np.nan), 1))
    found = reduce_to_tridiagonal(given_part)
    q = reflected(given_part, found.scales)
    assert np.abs(q @ dense(found.diagonal, found.off_diagonal) @ q.T - matrix).max() < 1e-13 * n


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 40), seed=st.integers(0, 999))
def test_eigenvalues_and_vectors_of_a_tridiagonal_matrix(n: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    diagonal, off_diagonal = draw.standard_normal(n), draw.standard_normal(n - 1)
    copies = diagonal.copy(), off_diagonal.copy()
    values = tridiagonal_eigenvalues(diagonal, off_diagonal)
    matrix = dense(diagonal, off_diagonal)
    assert np.allclose(values, np.linalg.eigvalsh(matrix), atol=1e-13 * n)
    for vectors in (
        tridiagonal_eigenvectors(diagonal, off_diagonal),
        inverse_iteration(diagonal, off_diagonal, values, [0, n]),
    ):
        assert np.abs(matrix @ vectors - vectors * values).max() < 1e-12 * n
        assert np.abs(vectors.T @ vectors - np.eye(n)).max() < 1e-12 * n
    assert np.array_equal(diagonal, copies[0])
    assert np.array_equal(off_diagonal, copies[1])


def test_groups_of_eigenvalues_are_independent_of_each_other() -> None:
    draw = np.random.default_rng(3)
    diagonal, off_diagonal = draw.standard_normal(30), draw.standard_normal(29)
    values = tridiagonal_eigenvalues(diagonal, off_diagonal)
    together = inverse_iteration(diagonal, off_diagonal, values, [0, 4, 5, 30])
    for start, stop in [(0, 4), (4, 5), (5, 30)]:
        alone = inverse_iteration(diagonal, off_diagonal, values[start:stop].copy(), [0, stop - start])
        assert np.array_equal(together[:, start:stop], alone)


def test_no_eigenvalue_no_vector() -> None:
    assert inverse_iteration(np.ones(5), np.ones(4), np.empty(0), [0]).shape == (5, 0)


def test_the_same_bits_from_several_threads_at_once() -> None:
    """No routine keeps anything between calls: together they give what each gives alone."""
    tall = torch.randn(400, 300, generator=torch.Generator().manual_seed(1))

    def both(_: int) -> bytes:
        spectrum = gram_spectrum(tall)
        return b"".join(spectrum.leading_vectors(count).numpy().tobytes() for count in (60, 200))

    alone = both(0)
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(both, range(9))) == {alone}


NOT_A_NUMBER = np.full(6, np.nan)


@pytest.mark.parametrize(
    "call",
    [
        lambda: tridiagonal_eigenvalues(np.full(40, 1.0), np.full(39, np.nan)),
        lambda: tridiagonal_eigenvectors(NOT_A_NUMBER, NOT_A_NUMBER[1:]),
        lambda: inverse_iteration(NOT_A_NUMBER, NOT_A_NUMBER[1:], NOT_A_NUMBER.copy(), [0, 6]),
    ],
    ids=["dsterf", "dstemr", "dstein"],
)
def test_what_is_no_number_ends(call: Call) -> None:
    """In an error or in what is no number either; never in numbers, never in a loop without end."""
    try:
        found = call()
    except LinAlgError:
        return
    assert not np.isfinite(found).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda: add_gram_lower(np.zeros((3, 3), order="F"), np.zeros((2, 3), order="F")),
        lambda: add_gram_lower(np.zeros((3, 3), order="F"), np.zeros((3, 2))),
        lambda: add_gram_lower(np.zeros((3, 3), order="F"), np.zeros((3, 2), np.float32, order="F")),
        lambda: reduce_to_tridiagonal(np.zeros((3, 2), order="F")),
        lambda: reduce_to_tridiagonal(np.zeros((6, 6), order="F")[::2, ::2]),
        lambda: reduce_to_tridiagonal(np.broadcast_to(np.zeros(()), (1, 1))),
        lambda: reduce_to_tridiagonal(np.zeros((0, 0), order="F")),
        lambda: tridiagonal_eigenvalues(np.zeros(3), np.zeros(3)),
        lambda: tridiagonal_eigenvectors(np.zeros(0), np.zeros(0)),
        lambda: inverse_iteration(np.zeros(3), np.zeros(2), np.zeros(4), [0, 4]),
        lambda: inverse_iteration(np.zeros(3), np.zeros(2), np.zeros(3), [0, 4]),
        lambda: inverse_iteration(np.zeros(3), np.zeros(2), np.zeros(3), [0, 4, 3]),
        lambda: inverse_iteration(np.zeros(6)[::2], np.zeros(2), np.zeros(3), [0, 3]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(call: Call) -> None:
    """They would be read or written out of bounds."""
    with pytest.raises(ValueError, match=r"of \(|groups|column-major"):
        call()


def test_a_routine_of_another_signature_is_refused() -> None:
    published = cython_lapack.__pyx_capi__
    with pytest.raises(ImportError, match=r"'dsterf'.*32 bits"):
        foreign_routine(published, "dsterf", "iiii")
    with pytest.raises(ImportError, match=r"'ssterf'.*32 bits"):
        foreign_routine(published, "ssterf", "iddi")
    with pytest.raises(ImportError, match="no routine 'dnothing'"):
        foreign_routine(published, "dnothing", "iddi")


# Other threads.


def another_thread_ran_during(call: Call) -> bool:
    """Whether a thread that may run from just before ``call`` has run by the end of it.

    The interpreter is told to take its lock away from nobody: the other thread runs when this one gives it up of its
    own accord, and in no other moment, however the machine is loaded.
    """
    gate, ran = threading.Lock(), []

    def wait_and_run() -> None:
        with gate:
            ran.append(True)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e3)
    try:
        gate.acquire()
        thread = threading.Thread(target=wait_and_run)
        thread.start()
        gate.release()
        call()
        meanwhile = bool(ran)
    finally:
        sys.setswitchinterval(before)
    thread.join()
    return meanwhile


N = 1500


def reduction() -> Call:
    matrix = symmetric(N)
    return lambda: reduce_to_tridiagonal(matrix)


def gram_update() -> Call:
    gram, panel = np.zeros((N, N), order="F"), np.ones((N, 500), order="F")
    return lambda: add_gram_lower(gram, panel)


def eigenvalues() -> Call:
    diagonal, off_diagonal = np.ones(400), np.linspace(0, 1, 399)
    return lambda: tridiagonal_eigenvalues(diagonal, off_diagonal)


def few_vectors() -> Call:
    diagonal, off_diagonal = np.ones(400), np.linspace(0, 1, 399)
    values = tridiagonal_eigenvalues(diagonal, off_diagonal)
    return lambda: inverse_iteration(diagonal, off_diagonal, values, list(range(401)))


def all_vectors() -> Call:
    diagonal, off_diagonal = np.ones(400), np.linspace(0, 1, 399)
    return lambda: tridiagonal_eigenvectors(diagonal, off_diagonal)


ROUTINES = {
    "_dsyrk": gram_update,
    "_dsytrd": reduction,
    "_dsterf": eigenvalues,
    "_dstein": few_vectors,
    "_dstemr": all_vectors,
}


@pytest.mark.parametrize("name", ROUTINES)
def test_other_threads_run_while_a_routine_computes(name: str) -> None:
    """One of many calls is enough: a machine may be too busy to wake the other thread in time."""
    call = ROUTINES[name]()
    assert any(another_thread_ran_during(call) for _ in range(100))


@pytest.mark.parametrize("name", ROUTINES)
def test_that_measurement_sees_a_routine_that_holds_the_lock(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same code and the same routine, but called the way that keeps the interpreter's lock."""
    routine = getattr(lapack, name)
    address = ctypes.cast(routine, ctypes.c_void_p).value
    keeps_the_lock = ctypes.PYFUNCTYPE(None, *routine.argtypes)(address)
    monkeypatch.setattr(lapack, name, keeps_the_lock)
    call = ROUTINES[name]()
    assert not all(another_thread_ran_during(call) for _ in range(3))


@pytest.mark.parametrize(
    "call",
    [
        lambda a: blas.dsyrk(1.0, a, beta=1.0, c=a, lower=1, overwrite_c=1),
        lambda a: scipy_lapack.dsytrd(a, lower=1, lwork=32 * len(a), overwrite_a=1),
    ],
    ids=["dsyrk", "dsytrd"],
)
def test_why_scipys_own_wrappers_are_not_used(call: Callable[[np.ndarray], object]) -> None:
    """When this fails, scipy has learned to give up the lock and the foreign calls can go."""
    matrix = symmetric(N // 2)
    assert not all(another_thread_ran_during(lambda: call(matrix)) for _ in range(3))


@pytest.mark.slow
def test_another_thread_keeps_running_during_a_large_spectrum(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that takes time in it are the three routines, and another thread runs during each of them."""
    ran_during = set()

    def watch(name: str) -> None:
        routine = getattr(lapack, name)

        def watched(*arguments: object) -> None:
            if another_thread_ran_during(lambda: routine(*arguments)):
                ran_during.add(name)

        monkeypatch.setattr(lapack, name, watched)

    for name in ROUTINES:
        watch(name)
    tall = torch.randn(N, N, generator=torch.Generator().manual_seed(1))
    for _ in range(20):
        gram_spectrum(tall)
        if ran_during == {"_dsyrk", "_dsytrd", "_dsterf"}:
            return
    pytest.fail(f"only {ran_during} let another thread run")
