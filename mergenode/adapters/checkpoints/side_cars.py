"""Side-cars of a contribution: its Fisher or Gram matrices, read and distrusted like its weights.

``*.fisher.safetensors`` holds a diagonal Fisher per tensor in the shape of the weight, ``*.gram.safetensors`` the
second moments of what a linear layer saw, (d_in, d_in), both under the weight's name. In a directory there is at most
one of each; beside a bare file ``x.safetensors`` they are called ``x.fisher.safetensors`` and ``x.gram.safetensors``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import fsum, isfinite, sqrt
from pathlib import Path

import torch
from blake3 import blake3
from torch import Tensor

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.digest import CHUNK_BYTES, digest_of
from mergenode.adapters.checkpoints.entries import Dense, Entry
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.regular_file import list_directory
from mergenode.adapters.checkpoints.side_car_names import side_car_beside, suffix_of
from mergenode.adapters.checkpoints.torch_dtypes import TORCH_DTYPES
from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.errors import RejectedError, RejectReason
from mergenode.maths.norms import squared_norm
from mergenode.types import Digest, DType, TensorSpec

_DOMAIN = b"mergenode/content-and-side-cars/1\n"
_HINT = "Write it again with `mergenode sidecar`, from the weights that it lies beside."
_GRAM_DTYPES = (DType.F32, DType.F64)
_ASYMMETRY = 1e-3
_ROWS = 256
_INDEFINITE = 1e-4
"""How far below 0 an eigenvalue of the correlations may lie: fp32 sums over a few thousand inputs stay within."""


@dataclass(slots=True)
class SideCars:
    """Owns the open files, by kind; close it, or use it in ``with``. Empty when nothing was asked for."""

    files: Mapping[str, WeightFiles] = field(default_factory=dict)
    places: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By kind: base tensor name -> name inside the file."""
    _rms: float | None = None

    def close(self) -> None:
        """Release the descriptors. Idempotent."""
        for files in self.files.values():
            files.close()

    def spec(self, kind: str, name: str) -> TensorSpec | None:
        """What the side-car of this kind holds for a base tensor; None when it does not mention it."""
        place = self.places.get(kind, {}).get(name)
        return None if place is None else self.files[kind].specs[place]

    def fisher_rms(self) -> float:
        """Root mean square of all Fishers, measured in one pass over the file when first asked for.

        Measured, not believed: with a wrong number in the metadata a contribution would get any weight it likes.
        """
        if self._rms is None:
            files = self.files["fisher"]
            count = sum(spec.numel for spec in files.specs.values())
            squares = fsum(_squares(files, spec) for spec in files.specs.values())
            self._rms = sqrt(squares / count) if count else 0.0
        return self._rms


def open_side_cars(
    weights: WeightFiles, entries: Mapping[str, Entry], base: BaseModel, needs: Iterable[str], limits: Limits
) -> SideCars:
    """Open the side-cars of these kinds that lie beside ``weights``, and hold their headers against the base.

    Raises:
        RejectedError: NEEDS_SIDE_CAR when one is missing, SIDE_CAR_INVALID when it does not fit, AMBIGUOUS_WEIGHTS
            when there are several; and what is wrong with any safetensors file, see ``open_weights``.
        TransientError: VANISHED, READ_FAILED, CHANGED_WHILE_READING.
    """
    files: dict[str, WeightFiles] = {}
    places: dict[str, Mapping[str, str]] = {}
    with ExitStack() as stack:
        for kind in sorted(needs):
            path = _find(weights, kind, limits)
            files[kind] = stack.enter_context(open_weights(path, root=weights.root, limits=limits))
            places[kind] = _placed(kind, files[kind], entries, base)
        stack.pop_all()
    return SideCars(files, places)


def fisher_places(files: WeightFiles, base: BaseModel) -> Mapping[str, str]:
    """Base tensor name -> name in a Fisher file that belongs to no contribution, by the names of the base.

    Raises RejectedError: SIDE_CAR_INVALID.
    """
    return _placed("fisher", files, {}, base)


def content_with(weights: Digest, side_cars: Mapping[str, Digest]) -> Digest:
    """What a contribution *is* to a method that uses side-cars: weights and side-cars together; see ADR 0017."""
    if not side_cars:
        return weights
    hasher = blake3(_DOMAIN)
    for part in (weights, *(f"{kind}={side_cars[kind]}" for kind in sorted(side_cars))):
        hasher.update(len(part).to_bytes(8, "little") + part.encode())
    return digest_of(hasher.digest())


def check_fisher(values: Tensor, where: Callable[[], str]) -> None:
    """Refuse Fishers that are negative or not finite. Raises RejectedError: SIDE_CAR_INVALID."""
    if not values.numel():
        return
    least, most = torch.aminmax(values)
    if not (float(least) >= 0 and isfinite(float(most))):
        raise _invalid(f"{where()}: Fishers are finite and not negative, these lie in {float(least)}..{float(most)}")


def check_gram(gram: Tensor, where: Callable[[], str]) -> None:
    """Refuse what cannot be a sum of outer products: (d, d), read only; takes ``check_bytes`` of memory.

    A matrix that is not positive semi-definite would make the sum of all unsolvable, for everybody.
    Raises RejectedError: SIDE_CAR_INVALID.
    """
    if not gram.numel():
        return
    least, most = (float(value) for value in torch.aminmax(gram))
    if not (isfinite(least) and isfinite(most)):
        raise _invalid(f"{where()}: has values that are not finite")
    diagonal = gram.diagonal().double()
    if float(diagonal.min()) < 0:
        raise _invalid(f"{where()}: a mean of squares on its diagonal is {float(diagonal.min()):g}")
    inverse = diagonal.rsqrt().masked_fill_(diagonal == 0, 0.0)
    for start in range(0, len(gram), _ROWS):
        rows = slice(start, start + _ROWS)
        apart = (gram[rows] - gram[:, rows].mT).mul_(inverse.to(gram.dtype)).mul_(inverse[rows, None].to(gram.dtype))
        if float(apart.abs_().max()) > _ASYMMETRY or bool(gram[rows][diagonal[rows] == 0].any()):
            raise _invalid(f"{where()}: is not symmetric, or has a moment of an input that is always 0")
    correlations = gram.double().mul_(inverse).mul_(inverse[:, None]).mT  # in the order in which LAPACK works in place
    correlations.diagonal().fill_(1.0 + _INDEFINITE)
    found = torch.empty((), dtype=torch.int32)
    if int(torch.linalg.cholesky_ex(correlations, out=(correlations, found)).info):
        raise _invalid(f"{where()}: is not positive semi-definite")


def check_bytes(width: int) -> int:
    """Most bytes that ``check_gram`` allocates for a Gram of this width."""
    return 8 * width * width + 2 * 8 * _ROWS * width


def _invalid(message: str) -> RejectedError:
    return RejectedError(RejectReason.SIDE_CAR_INVALID, message, hint=_HINT)


def _find(weights: WeightFiles, kind: str, limits: Limits) -> Path:
    path = weights.path
    if not path.is_dir():
        beside = path.with_name(side_car_beside(path.name, kind))
        found = [beside] if beside.exists() else []
    else:
        names = list_directory(path, root=weights.root, max_entries=limits.directory_entries)
        found = [path / name for name in names if name.endswith(suffix_of(kind)) and not name.startswith(".")]
    if not found:
        raise RejectedError(
            RejectReason.NEEDS_SIDE_CAR,
            f"{path.name}: has no *{suffix_of(kind)} beside its weights, and the merge method needs one",
            hint="Let its owner write one (`mergenode sidecar`, docs/side-cars.md), or choose a method without data.",
        )
    if len(found) > 1:
        raise RejectedError(
            RejectReason.AMBIGUOUS_WEIGHTS,
            f"{path.name}: has several side-cars of one kind ({found[0].name}, {found[1].name})",
            hint="Keep the one that was made from these weights.",
        )
    return found[0]


def _placed(kind: str, files: WeightFiles, entries: Mapping[str, Entry], base: BaseModel) -> dict[str, str]:
    """Base tensor name -> name in the side-car. A side-car may use the names of the base or of the contribution."""
    by_source = {entry.source: name for name, entry in entries.items() if isinstance(entry, Dense)}
    placed: dict[str, str] = {}
    for spec in files.specs.values():
        name = spec.name if spec.name in base.specs else by_source.get(spec.name, spec.name)
        name = base.aliases.get(name, name)
        wanted = base.specs.get(name)
        shown = f"{files.files[0]}: tensor {spec.name!r}"
        if wanted is None or not wanted.dtype.is_float:
            raise _invalid(f"{shown}: the base has no weight of this name")
        if name in placed:
            raise _invalid(f"{shown}: speaks of the same weight as {placed[name]!r}")
        shape = wanted.shape if kind == "fisher" else (wanted.shape[-1:] * 2 if len(wanted.shape) == 2 else ())
        if spec.shape != shape:
            needed = f"a {kind} of {name!r} {list(wanted.shape)} has {list(shape)}" if shape else "it needs a matrix"
            raise _invalid(f"{shown}: has shape {list(spec.shape)}; {needed}")
        if not spec.dtype.is_float or (kind == "gram" and spec.dtype not in _GRAM_DTYPES):
            raise _invalid(f"{shown}: is {spec.dtype}; a Fisher is a float type, a Gram F32 or F64")
        placed[name] = spec.name
    return placed


def _squares(files: WeightFiles, spec: TensorSpec) -> float:
    buffer = bytearray(CHUNK_BYTES)
    found = []
    for offset in range(0, spec.nbytes, CHUNK_BYTES):
        part = memoryview(buffer)[: min(CHUNK_BYTES, spec.nbytes - offset)]
        files.read_into(spec.name, offset, part)
        values = torch.frombuffer(buffer, dtype=torch.uint8, count=part.nbytes).view(TORCH_DTYPES[spec.dtype])
        found.append(squared_norm(values))
    total = sum(found)
    return fsum(found) if isfinite(total) else total
