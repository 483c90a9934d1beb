"""The few BLAS and LAPACK routines of the Gram route, called without holding the interpreter lock.

scipy's own wrappers keep the lock for the whole computation, so one large reduction would silence every other thread
of the process: health probes, other decompositions, signals. The same compiled routines are published by
``scipy.linalg.cython_blas`` and ``cython_lapack`` as C function pointers; a foreign call through such a pointer lets
the other threads run.

Nothing is copied: arrays are handed over as they lie, so every function states and checks their layout. All of them
are fp64; LAPACK integers have 32 bits, which is verified when this module is imported.

Names of arguments follow LAPACK Users' Guide, third edition, where the plain word would be longer.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.linalg import LinAlgError
from numpy.typing import NDArray
from scipy.linalg import cython_blas, cython_lapack

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

_C_TYPES = {"c": "char *", "i": "int *", "d": "double *"}
"""One letter per argument: a flag, a 32-bit integer (or an array of them), an fp64 number (or an array of them)."""


def foreign_routine(published: dict[str, Any], name: str, letters: str) -> Callable[..., None]:
    """The C function behind ``published[name]``, a capsule of a Cython module; releases the lock while it runs.

    All arguments are addresses: ``array.ctypes``, ``ctypes.byref(number)``, or plain integers.

    Raises:
        ImportError: the routine is absent, or its arguments are not those that ``letters`` spell out. Calling it
            anyway would corrupt memory, for instance where LAPACK was built with 64-bit integers.
    """
    if name not in published:
        raise ImportError(f"scipy publishes no routine {name!r}; install scipy 1.11 or later")
    capsule, api = published[name], ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    signature: bytes = api.PyCapsule_GetName(capsule)
    expected = f"void ({', '.join(_C_TYPES[letter] for letter in letters)})"
    found = re.sub(r"\b__pyx_t_\w+_d\b", "double", signature.decode())
    if found != expected:
        raise ImportError(
            f"scipy's {name!r} is {found!r} instead of {expected!r}; install a scipy whose LAPACK integers have 32 bits"
        )
    prototype = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(letters))
    routine: Callable[..., None] = prototype(api.PyCapsule_GetPointer(capsule, signature))
    return routine


_dsyrk = foreign_routine(cython_blas.__pyx_capi__, "dsyrk", "cciiddiddi")
_dsytrd = foreign_routine(cython_lapack.__pyx_capi__, "dsytrd", "cididdddii")
_dsterf = foreign_routine(cython_lapack.__pyx_capi__, "dsterf", "iddi")
_dstein = foreign_routine(cython_lapack.__pyx_capi__, "dstein", "iddidiididiii")
_dstemr = foreign_routine(cython_lapack.__pyx_capi__, "dstemr", "cciddddiiiddiiiidiiii")

_LOWER, _PLAIN, _VECTORS, _ALL = (ctypes.byref(ctypes.c_char(letter)) for letter in (b"L", b"N", b"V", b"A"))
_ONE = ctypes.byref(ctypes.c_double(1.0))


class Tridiagonal(NamedTuple):
    """T of A = Q T Q^T, and the factors of the reflectors H_i = I - scale_i v_i v_i^T whose product is Q.

    diagonal: (n,), off_diagonal: (n - 1,), scales: (n - 1,), fp64. A scale of 0 stands for H_i = I.
    """

    diagonal: Vector
    off_diagonal: Vector
    scales: Vector


def _numbers(array: NDArray[np.float64]) -> Any:
    """The array as an argument, which keeps it alive during the call.

    Raises ValueError unless it is fp64, column-major without gaps, and writable.
    """
    if array.dtype != np.float64 or not array.flags.f_contiguous or not array.flags.writeable:
        raise ValueError(f"LAPACK needs a writable column-major fp64 array, not {array.dtype} {array.strides}")
    return array.ctypes


def _check_tridiagonal(diagonal: Vector, off_diagonal: Vector) -> int:
    n = len(diagonal)
    if n < 1 or diagonal.shape != (n,) or off_diagonal.shape != (n - 1,):
        raise ValueError(f"tridiagonal matrix of {diagonal.shape} and {off_diagonal.shape} elements")
    return n


def add_gram_lower(gram: Matrix, panel_t: Matrix) -> None:
    """Lower triangle of ``gram`` (n, n) += ``panel_t panel_t^T``, ``panel_t`` (n, k), both column-major (dsyrk).

    The strict upper triangle is not touched. No memory of its own.

    Raises:
        ValueError: shapes or layouts do not fit.
    """
    n, k = panel_t.shape
    if gram.shape != (n, n):
        raise ValueError(f"update of {gram.shape} by {panel_t.shape}")
    order = ctypes.byref(ctypes.c_int(n))
    inner = ctypes.byref(ctypes.c_int(k))
    _dsyrk(_LOWER, _PLAIN, order, inner, _ONE, _numbers(panel_t), order, _ONE, _numbers(gram), order)


def reduce_to_tridiagonal(symmetric: Matrix) -> Tridiagonal:
    """Householder reduction of the matrix whose lower triangle is given, (n, n) column-major, n >= 1 (dsytrd).

    In place: v_i comes to lie below the first off-diagonal of column i, its leading 1 unwritten. The strict upper
    triangle is not read. Memory: the workspace that LAPACK asks for, 32 columns.

    Raises:
        ValueError: shape or layout does not fit.
        LinAlgError: LAPACK refused an argument.
    """
    n = symmetric.shape[0]
    if n < 1 or symmetric.shape != (n, n):
        raise ValueError(f"tridiagonal reduction of {symmetric.shape}")
    found = Tridiagonal(np.empty(n), np.empty(n - 1), np.empty(n - 1))
    order, info = ctypes.byref(ctypes.c_int(n)), ctypes.c_int()
    fixed = (_LOWER, order, _numbers(symmetric), order, *map(_numbers, found))
    best = ctypes.c_double()
    _dsytrd(*fixed, ctypes.byref(best), ctypes.byref(ctypes.c_int(-1)), ctypes.byref(info))
    size = int(best.value)
    _dsytrd(*fixed, _numbers(np.empty(size)), ctypes.byref(ctypes.c_int(size)), ctypes.byref(info))
    if info.value != 0:
        raise LinAlgError(f"tridiagonal reduction refused argument {-info.value}")
    return found


def tridiagonal_eigenvalues(diagonal: Vector, off_diagonal: Vector) -> Vector:
    """All eigenvalues, (n,) ascending, of the matrix with ``diagonal`` (n,) and ``off_diagonal`` (n - 1,).

    Pal-Walker-Kahan variant of the QR iteration, free of square roots (dsterf). Inputs are not modified.

    Raises:
        ValueError: shapes do not fit.
        LinAlgError: the iteration did not converge.
    """
    n = _check_tridiagonal(diagonal, off_diagonal)
    values, consumed, info = diagonal.copy(), off_diagonal.copy(), ctypes.c_int()
    _dsterf(ctypes.byref(ctypes.c_int(n)), _numbers(values), _numbers(consumed), ctypes.byref(info))
    if info.value != 0:
        raise LinAlgError(f"QR iteration left {info.value} off-diagonal elements that are not zero")
    return values


def inverse_iteration(diagonal: Vector, off_diagonal: Vector, ascending: Vector, edges: Sequence[int]) -> Matrix:
    """Eigenvectors of the eigenvalues ``ascending`` (count,): (n, count) column-major, in their order (dstein).

    ``edges``: 0, then where each next group of eigenvalues begins, then count. Inside a group vectors are
    orthogonalised against each other, which costs 4 n operations a pair; across groups they are as orthogonal as the
    gap makes them. Cost otherwise: about 100 n operations a vector. Memory beyond the result: 6 n numbers.

    Raises:
        ValueError: shapes do not fit.
        LinAlgError: the iteration did not converge for some vector.
    """
    n = _check_tridiagonal(diagonal, off_diagonal)
    increasing = all(start < stop for start, stop in pairwise(edges))
    if len(ascending) > n or edges[0] != 0 or edges[-1] != len(ascending) or not increasing:
        raise ValueError(f"{len(edges) - 1} groups of {len(ascending)} eigenvalues do not fit a matrix of order {n}")
    vectors = np.empty((n, len(ascending)), order="F")
    first_block, whole = np.ones(n, dtype=np.intc), np.full(1, n, dtype=np.intc)  # the matrix does not split
    work, integers, failed = np.empty(5 * n), np.empty(n, dtype=np.intc), np.empty(n, dtype=np.intc)
    order, size, info = ctypes.c_int(n), ctypes.c_int(), ctypes.c_int()
    fixed = (ctypes.byref(order), _numbers(diagonal), _numbers(off_diagonal), ctypes.byref(size))
    blocks = (first_block.ctypes, whole.ctypes)
    scratch = (_numbers(work), integers.ctypes, failed.ctypes, ctypes.byref(info))
    values_at, vectors_at = _numbers(ascending).data, _numbers(vectors).data
    for start, stop in pairwise(edges):
        size.value = stop - start
        _dstein(*fixed, values_at + 8 * start, *blocks, vectors_at + 8 * n * start, fixed[0], *scratch)
        if info.value != 0:
            raise LinAlgError(f"inverse iteration failed for {info.value} of {size.value} eigenvalues")
    return vectors


def tridiagonal_eigenvectors(diagonal: Vector, off_diagonal: Vector) -> Matrix:
    """All eigenvectors, (n, n) column-major, eigenvalues ascending: robust representations (dstemr).

    Dhillon, Parlett and Voemel 2006. Inputs are not modified. Memory beyond the result: 18 n numbers.

    Raises:
        ValueError: shapes do not fit.
        LinAlgError: no representation was found; its code is in the message.
    """
    n = _check_tridiagonal(diagonal, off_diagonal)
    vectors, values = np.empty((n, n), order="F"), np.empty(n)
    support, integers = np.empty(2 * n, dtype=np.intc), np.empty(10 * n, dtype=np.intc)
    consumed, padded = diagonal.copy(), np.append(off_diagonal, 0.0)
    order, found, relative, info = (ctypes.c_int(number) for number in (n, 0, 1, 0))
    unused = ctypes.byref(ctypes.c_double()), ctypes.byref(ctypes.c_int())
    _dstemr(
        *(_VECTORS, _ALL, ctypes.byref(order), _numbers(consumed), _numbers(padded)),
        *(unused[0], unused[0], unused[1], unused[1], ctypes.byref(found), _numbers(values), _numbers(vectors)),
        *(ctypes.byref(order), ctypes.byref(order), support.ctypes, ctypes.byref(relative)),
        *(_numbers(np.empty(18 * n)), ctypes.byref(ctypes.c_int(18 * n)), integers.ctypes),
        *(ctypes.byref(ctypes.c_int(10 * n)), ctypes.byref(info)),
    )
    if info.value != 0 or found.value != n:
        raise LinAlgError(f"robust representations failed with code {info.value}, {found.value} of {n} vectors")
    return vectors
