"""From what an inspection measured of every tensor to the evidence that gates look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import fsum, isnan, sqrt

from mergenode.gates.evidence import (
    DIRECTIONS,
    MOST_NAMES,
    WHOLE,
    Evidence,
    GroupEvidence,
    MatrixSpectrum,
    SpectraSummary,
)
from mergenode.ledger.groups import layer_group
from mergenode.maths.norms import exact_total

NOTICED = 0.01
"""A matrix with less of the energy is never called the worst."""


@dataclass(slots=True)
class TensorNumbers:
    """What one tensor adds up to, slice after slice, in order. Squared norms and sums of magnitudes, fp64."""

    delta_sq: list[float] = field(default_factory=list)
    merge_sq: list[float] = field(default_factory=list)
    dot: list[float] = field(default_factory=list)
    opposing: list[float] = field(default_factory=list)
    compared: list[float] = field(default_factory=list)
    finite: bool = True
    changed: bool = False
    spectrum: MatrixSpectrum | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """Which numbers were measured at all."""

    values: bool
    cosine: bool
    signs: bool
    spectra: bool
    frozen: bool


def evidence_of(
    tensors: Mapping[str, TensorNumbers],
    sizes: Mapping[str, int],
    base_squares: Mapping[str, float],
    looked: Looked,
) -> Evidence:
    """The numbers by group and for the whole model, names of tensors bounded.

    Args:
        tensors: of the whole base, in its order; what a contribution does not mention has no parts.
        sizes: elements per tensor.
        base_squares: squared norm of every tensor of the base.
    """
    members: dict[str, list[str]] = {WHOLE: list(tensors)}
    for name in tensors:
        members.setdefault(layer_group(name), []).append(name)
    groups = {
        group: _group(
            group, sum(sizes[name] for name in names), [tensors[name] for name in names],
            sqrt(fsum(base_squares[name] for name in names)), looked,
        )
        for group, names in members.items()
    }  # fmt: skip
    bad = [name for name, numbers in tensors.items() if not numbers.finite]
    changed = [name for name, numbers in tensors.items() if numbers.changed]
    return Evidence(
        groups=groups,
        merged=looked.cosine or looked.signs,
        not_finite=tuple(bad[:MOST_NAMES]) if looked.values else None,
        not_finite_count=len(bad),
        spectra=summary_of(numbers.spectrum for numbers in tensors.values()) if looked.spectra else None,
        frozen_changed=tuple(changed[:MOST_NAMES]) if looked.frozen else None,
        frozen_changed_count=len(changed) if looked.frozen else 0,
    )


def _group(
    group: str, parameters: int, tensors: list[TensorNumbers], base_norm: float, looked: Looked
) -> GroupEvidence:
    def total(name: str) -> float:
        return exact_total([value for numbers in tensors for value in getattr(numbers, name)])

    norm = sqrt(total("delta_sq"))
    cosine = conflict = None
    if looked.cosine:
        scale = norm * sqrt(total("merge_sq"))
        cosine = total("dot") / scale if scale else None
    if looked.signs:
        compared = total("compared")
        conflict = total("opposing") / compared if compared else None
    return GroupEvidence(
        group=group, parameters=parameters, norm=norm, base_norm=base_norm, cosine=cosine, sign_conflict=conflict
    )


def excess(spectrum: MatrixSpectrum, directions: int) -> float | None:
    """How far the energy in the leading directions is beyond that of equally strong ones; see ``SpectraSummary``.

    None when the matrix has no more directions than that, or no energy.
    """
    if spectrum.rank <= directions or spectrum.energy == 0.0:
        return None
    even = directions / spectrum.rank
    return max(0.0, (spectrum.shares[directions - 1] - even) / (1.0 - even))


def summary_of(spectra: Iterable[MatrixSpectrum | None]) -> SpectraSummary:
    """Medians by energy, and the worst matrix that counts."""
    known = [spectrum for spectrum in spectra if spectrum is not None and spectrum.rank > 1 and spectrum.energy != 0.0]
    energy = fsum(spectrum.energy for spectrum in known)
    medians = []
    for directions in range(1, DIRECTIONS + 1):
        pairs = [(value, s.energy) for s in known if (value := excess(s, directions)) is not None]
        medians.append(weighted_median(pairs))
    noticed = [spectrum for spectrum in known if not spectrum.energy < NOTICED * energy]
    worst = max(noticed, key=lambda spectrum: excess(spectrum, 1) or 0.0, default=None)
    factored = fsum(spectrum.energy for spectrum in known if spectrum.factored)
    return SpectraSummary(
        matrices=len(known), median=tuple(medians), worst=worst, adapter=bool(known) and 2 * factored > energy
    )


def weighted_median(pairs: Iterable[tuple[float, float]]) -> float | None:
    """The smallest value up to which at least half of the weight lies; None without any, NaN when one is not a number.

    Args:
        pairs: value and weight above 0.
    """
    ordered = list(pairs)
    if any(isnan(value) or isnan(weight) for value, weight in ordered):
        return float("nan")
    ordered.sort()
    half = fsum(weight for _, weight in ordered) / 2
    reached = 0.0
    for value, weight in ordered:
        reached += weight
        if reached >= half:
            return value
    return ordered[-1][0] if ordered else None
