"""The pass behind ``inspection``: every tensor once, slice by slice, numbers added up in the order of the base."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.contribution import Dense, Entry, LowRank
from mergenode.adapters.checkpoints.weights import WeightFiles
from mergenode.adapters.engines.local.incoming import Source, incoming
from mergenode.adapters.engines.local.inspected_tensors import Looked, TensorNumbers, evidence_of
from mergenode.adapters.engines.local.own_files import reading_own
from mergenode.adapters.engines.local.pipeline import Step
from mergenode.adapters.engines.local.shards import shard_layout
from mergenode.adapters.engines.local.tensors import accumulator_dtype, read_slice, slices
from mergenode.gates.evidence import DIRECTIONS, Evidence, MatrixSpectrum, Need
from mergenode.maths.leading_energy import leading_energies, product_energies
from mergenode.maths.norms import inner, squared_norm
from mergenode.maths.opposing_signs import opposing_mass
from mergenode.methods.linear_maps import DEFAULT_EXCLUDE, is_linear_map
from mergenode.types import TensorSpec


@dataclass(slots=True, kw_only=True)
class Inspection:
    """The pass. ``numbers`` is filled in the order of the steps by the thread that runs them."""

    base: BaseModel
    base_files: WeightFiles
    source: Source
    merge: Source | None
    needs: frozenset[Need]
    frozen: tuple[str, ...] = ()
    memory: int = 2 << 30
    numbers: dict[str, TensorNumbers] = field(default_factory=dict)

    def steps(self) -> Iterator[Step]:
        for specs in shard_layout(self.base):
            for spec in specs:
                self.numbers[spec.name] = TensorNumbers()
                yield from self._tensor(spec)

    def evidence(self) -> Evidence:
        """What was found, once all steps are done."""
        merged = self.merge is not None
        looked = Looked(
            values=Need.VALUES in self.needs,
            cosine=merged and Need.MERGE in self.needs,
            signs=merged and Need.SIGNS in self.needs,
            spectra=Need.SPECTRA in self.needs,
            frozen=Need.FROZEN in self.needs,
        )
        sizes = {name: self.base.specs[name].numel for name in self.numbers}
        found = evidence_of(self.numbers, sizes, self.base.squared_norms, looked)
        return replace(found, merged=merged)

    def _tensor(self, spec: TensorSpec) -> Iterator[Step]:
        entry = self.source.entry(spec.name)
        merged = self.merge.entry(spec.name) if self.merge else None
        if entry is None and merged is None:
            return
        whole = isinstance(entry, Dense) and self._has_spectrum(spec)
        wide = accumulator_dtype(spec).itemsize
        factors = self.source.factor_bytes(entry, wide) * 2
        for bounds in slices(spec, whole=whole):
            need = (bounds[1] - bounds[0]) * (3 * spec.dtype.size + 4 * wide) + factors
            yield Step(
                need_bytes=need,
                read=partial(self._read, spec, entry, merged, bounds),
                compute=partial(self._compute, spec, entry, merged, bounds),
                write=partial(self._add, self.numbers[spec.name]),
            )

    def _has_spectrum(self, spec: TensorSpec) -> bool:
        if Need.SPECTRA not in self.needs or not is_linear_map(spec, (), DEFAULT_EXCLUDE):
            return False
        return spec.numel * (3 * spec.dtype.size + 4 * accumulator_dtype(spec).itemsize) <= self.memory

    def _is_frozen(self, spec: TensorSpec) -> bool:
        if Need.FROZEN not in self.needs:
            return False
        names = [spec.name, *(alias for alias, primary in self.base.aliases.items() if primary == spec.name)]
        return any(fnmatchcase(name, pattern) for name in names for pattern in self.frozen)

    def _read(
        self, spec: TensorSpec, entry: Entry | None, merged: Entry | None, bounds: tuple[int, int]
    ) -> dict[str, Any]:
        with reading_own("base"):
            box: dict[str, Any] = {"base": read_slice(self.base_files, spec, *bounds)[0]}
        box["parts"] = self.source.read(entry, *bounds) if entry is not None else {}
        if self.merge is not None and merged is not None:
            box["merge"] = self.merge.read(merged, *bounds)
        return box

    def _compute(
        self, spec: TensorSpec, entry: Entry | None, merged: Entry | None, bounds: tuple[int, int], box: dict[str, Any]
    ) -> TensorNumbers:
        found = TensorNumbers()
        raw = box.pop("base")
        base = raw.to(accumulator_dtype(spec))
        merge = None
        if merged is not None:
            merge = incoming(spec, merged, box.pop("merge"), base, bounds, 1.0, first=False).delta
            found.merge_sq.append(squared_norm(merge))
        if entry is None:
            return found
        parts, frozen = box.pop("parts"), self._is_frozen(spec)
        if frozen and isinstance(entry, Dense):
            found.changed = not _same_bytes(raw, parts[entry.source])
        if Need.SPECTRA in self.needs and isinstance(entry, LowRank) and bounds[0] == 0:
            found.spectrum = _spectrum_of_product(spec, entry, parts)
        delta = incoming(spec, entry, parts, base, bounds, 1.0, first=False).delta
        if frozen and not isinstance(entry, Dense):
            found.changed = bool((delta != 0).any())
        if isinstance(entry, Dense) and self._has_spectrum(spec):
            energy, sums = leading_energies(delta.view(spec.shape), DIRECTIONS)
            found.spectrum = _spectrum(spec.name, min(spec.shape), energy, sums)
        self._sum(found, delta, merge)
        return found

    def _sum(self, found: TensorNumbers, delta: Tensor, merge: Tensor | None) -> None:
        square = squared_norm(delta)
        found.delta_sq.append(square)
        # Squares of finite float64 numbers may overflow; everywhere else the sum says it all.
        found.finite = isfinite(square) or bool(torch.isfinite(delta).all())
        if merge is None:
            return
        if Need.MERGE in self.needs:
            found.dot.append(inner(delta, merge))
        if Need.SIGNS in self.needs:
            against, compared = opposing_mass(delta, merge)
            found.opposing.append(against)
            found.compared.append(compared)

    def _add(self, numbers: TensorNumbers, found: TensorNumbers) -> None:
        for name in ("delta_sq", "merge_sq", "dot", "opposing", "compared"):
            getattr(numbers, name).extend(getattr(found, name))
        numbers.finite = numbers.finite and found.finite
        numbers.changed = numbers.changed or found.changed
        numbers.spectrum = found.spectrum or numbers.spectrum


def _same_bytes(left: Tensor, right: Tensor) -> bool:
    return left.dtype == right.dtype and torch.equal(left.view(torch.uint8), right.view(torch.uint8))


def _spectrum_of_product(spec: TensorSpec, entry: LowRank, parts: dict[str, Tensor]) -> MatrixSpectrum:
    """Of the factors: the product is never formed whole."""
    left, right = (parts[name].double().reshape(parts[name].shape[0], -1) for name in (entry.left, entry.right))
    left, right = left.T if entry.left_transposed else left, right.T if entry.right_transposed else right
    energy, sums = product_energies(left, right, DIRECTIONS)
    rank = min(entry.rank, left.shape[0], right.shape[1])
    square = entry.scale**2
    found = _spectrum(spec.name, rank, energy * square, tuple(part * square for part in sums))
    return replace(found, factored=True)


def _spectrum(name: str, rank: int, energy: float, sums: tuple[float, ...]) -> MatrixSpectrum:
    shares = tuple(part / energy if energy else 0.0 for part in sums)
    return MatrixSpectrum(name=name, rank=rank, energy=energy, shares=shares)
