"""A sum of task vectors with all its directions made equally strong (Marczak et al. 2025, arXiv 2502.04959)."""

from __future__ import annotations

from numpy.linalg import LinAlgError
from torch import Tensor

from mergenode.errors import FatalError
from mergenode.maths.polar import polar_factor
from mergenode.types import TensorSpec


def flatten_spectrum(spec: TensorSpec, total: Tensor) -> Tensor:
    """mean(s) U V^T of ``total`` (m, n), a new tensor; zero for zero.

    Raises:
        FatalError: the sum cannot be decomposed.
    """
    try:
        found = polar_factor(total)
    except LinAlgError as error:
        raise FatalError(
            f"the running sum of {spec.name!r} {list(spec.shape)} cannot be decomposed: {error}",
            hint="Run `mergenode verify`; when it finds no damage, add this tensor to `exclude`.",
        ) from error
    return found.factor.mul_(float(found.values.mean()) if found.rank else 0.0)
