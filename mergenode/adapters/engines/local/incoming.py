"""What a contribution says about a slice of a tensor: dense weights, a low-rank product or an addition to a bias."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isfinite
from typing import NoReturn, Protocol

import torch
from blake3 import blake3
from torch import Tensor

from mergenode.adapters.checkpoints.contribution import Additive, Contribution, Dense, Entry, LowRank
from mergenode.adapters.checkpoints.side_cars import check_bytes, check_fisher, check_gram
from mergenode.adapters.checkpoints.weights import WeightFiles
from mergenode.adapters.engines.local.tensors import accumulator_dtype, read_slice
from mergenode.errors import RejectedError, RejectReason
from mergenode.maths.norms import squared_norm
from mergenode.methods.contract import Incoming
from mergenode.methods.scaling import profile_factor
from mergenode.types import TensorSpec

_TOO_HEAVY = (
    "Without the weight it would be finite: give the contribution a smaller one (and smaller factors by profile)."
)
_DIVERGED = "The training run diverged: push an earlier checkpoint of the run."


class Vetoes(Protocol):
    """What the capabilities that are protected have to say about the entries of a contribution (``protection``)."""

    def read(self, name: str, start: int, stop: int) -> dict[str, Tensor]:
        """What the vetoes of a slice of the base tensor ``name`` take, under keys of their own."""
        ...

    def apply(self, parts: dict[str, Tensor], delta: Tensor, tuned: Tensor | None, base: Tensor) -> float:
        """Set vetoed entries to those of the base, in place; takes what ``read`` found out of ``parts``.

        All 1-D of one length. Returns the squared norm of what was vetoed.
        """
        ...


@dataclass(slots=True)
class Source:
    """One opened contribution on its way through a pass, with the digests of what was read of it so far.

    ``vetoes``: what some of its entries are held back by; None: nothing is protected. ``hashing`` False: it is read in
    any order, and nothing is remembered of that.
    """

    contribution: Contribution
    weight: float
    label: str
    profile: tuple[tuple[str, float], ...] = ()
    vetoes: Vetoes | None = None
    hashing: bool = True
    hashers: dict[str, blake3] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    _factors: dict[str, Tensor] = field(default_factory=dict)
    _weights: dict[str, float] = field(default_factory=dict)

    def apart(self, *, vetoed: bool = False, hashing: bool = False) -> Source:
        """The same contribution for a pass that comes before the fold, and leaves no digests behind."""
        vetoes = self.vetoes if vetoed else None
        return Source(self.contribution, self.weight, self.label, self.profile, vetoes, hashing=hashing)

    def entry(self, name: str) -> Entry | None:
        """What it says about a tensor; nothing where its profile gives it no weight."""
        return self.contribution.entries.get(name) if self.weight_of(name) else None

    def weight_of(self, name: str) -> float:
        """Its weight in this tensor."""
        if name not in self._weights:
            self._weights[name] = self.weight * profile_factor(name, self.profile)
        return self._weights[name]

    def sources_of(self, entry: Entry) -> list[str]:
        """Names of the tensors inside the contribution's files that an entry is made of."""
        return [entry.left, entry.right] if isinstance(entry, LowRank) else [entry.source]

    def content_of(self, entry: Entry) -> str:
        """A digest of the stored bytes that a tensor is made of; known once they were read to their end."""
        return "+".join(self.digests[name] for name in self.sources_of(entry))

    def digests_of(self, name: str, entry: Entry) -> dict[str, str]:
        """Digests of everything that was read for a base tensor, side-cars too, by the keys of ``digests``."""
        keys = [*self.sources_of(entry), *(side_key(kind, name) for kind in self.contribution.side_cars.files)]
        return {key: self.digests[key] for key in keys if key in self.digests}

    def read(self, entry: Entry, start: int, stop: int, name: str = "", sides: Iterable[str] = ()) -> dict[str, Tensor]:
        """Read what a slice needs, hashing every byte once. Called by one thread, in order.

        ``sides``: kinds of side-cars whose word on the base tensor ``name`` is wanted too, under ``side_key``.
        """
        found = self._read_sides(name, sides, start, stop)
        if self.vetoes is not None:
            found |= self.vetoes.read(name, start, stop)
        if isinstance(entry, LowRank):
            return found | {name: self._factor(name) for name in (entry.left, entry.right)}
        files = self.contribution.weights
        return found | {entry.source: self._hashed(files, files.specs[entry.source], entry.source, (start, stop))}

    def _read_sides(self, name: str, sides: Iterable[str], start: int, stop: int) -> dict[str, Tensor]:
        side_cars = self.contribution.side_cars
        found: dict[str, Tensor] = {}
        for kind in sides:
            spec = side_cars.spec(kind, name)
            if spec is not None:
                bounds = (start, stop) if kind == "fisher" else (0, spec.numel)
                found[side_key(kind, name)] = self._hashed(side_cars.files[kind], spec, side_key(kind, name), bounds)
        return found

    def _hashed(self, files: WeightFiles, spec: TensorSpec, key: str, bounds: tuple[int, int]) -> Tensor:
        tensor, buffer = read_slice(files, spec, *bounds)
        if not self.hashing:
            return tensor
        hasher = self.hashers.setdefault(key, blake3())
        hasher.update(buffer)
        if bounds[1] == spec.numel:
            self.digests[key] = self.hashers.pop(key).hexdigest()
        return tensor

    def side(self, spec: TensorSpec, parts: dict[str, Tensor], like: Tensor) -> dict[str, Tensor]:
        """``Incoming.side`` of a slice, checked, in dtype and place of ``like``; takes its parts out of ``parts``.

        Raises RejectedError: SIDE_CAR_INVALID.
        """
        found: dict[str, Tensor] = {}
        for kind, files in self.contribution.side_cars.files.items():
            values = parts.pop(side_key(kind, spec.name), None)
            if values is None:
                continue

            def where(files: WeightFiles = files) -> str:
                return f"{self.label}: {files.files[0]}: tensor {spec.name!r}"

            if kind == "gram":
                values = values.view(spec.shape[-1], spec.shape[-1])
                check_gram(values, where)
            else:
                check_fisher(values, where)
                found["fisher_rms"] = like.new_tensor(self.contribution.side_cars.fisher_rms())
            found[kind] = values.to(device=like.device, dtype=like.dtype)
        return found

    def factor_bytes(self, entry: Entry | None, wide: int) -> int:
        """Bytes of the factors of a low-rank product, as stored and with ``wide`` bytes per element; else none."""
        if not isinstance(entry, LowRank):
            return 0
        stored = [self.contribution.weights.specs[name] for name in (entry.left, entry.right)]
        return sum(spec.nbytes + wide * spec.numel for spec in stored)

    def _factor(self, name: str) -> Tensor:
        """A whole factor of a low-rank product; kept for the slices of the same tensor that follow."""
        if name not in self._factors:
            spec = self.contribution.weights.specs[name]
            tensor, buffer = read_slice(self.contribution.weights, spec, 0, spec.numel)
            if self.hashing:
                self.digests[name] = blake3(buffer).hexdigest()
            if len(self._factors) >= 2:
                self._factors.clear()
            self._factors[name] = tensor.view(spec.shape)
        return self._factors[name]


def side_key(kind: str, name: str) -> str:
    """The key of a side-car's tensor among parts and digests: no tensor of a checkpoint has NUL in its name."""
    return f"{kind}\0{name}"


def side_bytes(sides: Iterable[str], spec: TensorSpec, elements: int) -> int:
    """Most bytes that the side-cars of one contribution take in a step: as stored, converted, checked, as used."""
    wide = accumulator_dtype(spec).itemsize
    width = spec.shape[-1] if spec.shape else 1
    needs = {"fisher": elements * (8 + wide), "gram": width * width * (4 + wide) + check_bytes(width)}
    return sum(needs[kind] for kind in sides)


def incoming(
    spec: TensorSpec, entry: Entry, parts: dict[str, Tensor], base: Tensor, bounds: tuple[int, int], weight: float,
    *, first: bool,
) -> Incoming:  # fmt: skip
    """The delta of a slice in accumulator dtype, on the device of ``base``; takes the raw parts out of ``parts``.

    ``first``: nothing was folded into this slice yet, so the method may want the tuned weights themselves.
    """
    dtype = accumulator_dtype(spec)
    if isinstance(entry, Dense):
        tuned = parts.pop(entry.source).to(device=base.device, dtype=dtype)
        if first and weight == 1.0:
            return Incoming(tuned - base, tuned)
        delta = tuned.sub_(base)
        return Incoming(delta if weight == 1.0 else delta.mul_(weight), weight=weight)
    if isinstance(entry, Additive):
        delta = parts.pop(entry.source).to(device=base.device, dtype=dtype) * (entry.scale * weight)
        return Incoming(delta, weight=weight)
    return Incoming(_product(spec, entry, parts, base, bounds).mul_(entry.scale * weight), weight=weight)


def _product(
    spec: TensorSpec, entry: LowRank, parts: dict[str, Tensor], base: Tensor, bounds: tuple[int, int]
) -> Tensor:
    """Rows of ``left @ right`` that cover the slice, flattened and cut to it."""
    dtype = accumulator_dtype(spec)
    left, right = parts.pop(entry.left), parts.pop(entry.right)
    left = left.reshape(left.shape[0], -1) if left.ndim != 2 else left
    right = right.reshape(right.shape[0], -1) if right.ndim != 2 else right
    left = left.T if entry.left_transposed else left
    right = (right.T if entry.right_transposed else right).to(device=base.device, dtype=dtype)
    row = max(1, right.shape[1])
    first, last = bounds[0] // row, -(-bounds[1] // row)
    rows = left[first:last].to(device=base.device, dtype=dtype)
    product = torch.matmul(rows, right).reshape(-1)
    return product[bounds[0] - first * row : bounds[1] - first * row]


def reject_values(
    spec: TensorSpec, source: Source, entry: Entry, delta: Tensor, base: Tensor, bounds: tuple[int, int]
) -> NoReturn:
    """Say what made a norm non-finite: NaN or infinity, a weight, or values too large for their sums or squares.

    ``base``: the slice, flat, in accumulator dtype.
    """
    files = source.contribution.weights
    names = source.sources_of(entry)
    for name in names:
        stored = files.specs[name]
        first, last = (0, stored.numel) if isinstance(entry, LowRank) else bounds
        values, _ = read_slice(files, stored, first, last)
        bad = (~torch.isfinite(values)).nonzero()
        if len(bad):
            offset = int(bad[0])
            raise RejectedError(
                RejectReason.NOT_FINITE,
                f"{source.label}: tensor {name!r} ({files.file_of(name)}): {len(bad)} of the elements {first}..{last} "
                f"are not finite, the first ({float(values[offset])}) at flat index {first + offset}",
                hint="The training run diverged or the file is damaged: push an earlier checkpoint of the run.",
            )
    where = f"{source.label}: tensor {names[0]!r} ({files.file_of(names[0])}): every value is finite, but the update"
    weight, hint = source.weight_of(spec.name), _DIVERGED
    where = f"{where} of {spec.name!r}"
    if weight > 1 and isfinite(squared_norm(_unweighted(spec, source, entry, base, bounds))):
        where, hint = f"{where} times its weight of {weight:g}", _TOO_HEAVY
    if not bool(torch.isfinite(delta).all()):
        what = f"overflows {str(delta.dtype).removeprefix('torch.')}"
        raise RejectedError(RejectReason.NOT_FINITE, f"{where} {what}", hint=hint)
    raise RejectedError(RejectReason.NORM_TOO_LARGE, f"{where} is so large that its norm overflows", hint=hint)


def _unweighted(spec: TensorSpec, source: Source, entry: Entry, base: Tensor, bounds: tuple[int, int]) -> Tensor:
    """The update of a slice as if the contribution had weight 1: read again."""
    return incoming(spec, entry, source.apart().read(entry, *bounds), base, bounds, 1.0, first=False).delta
