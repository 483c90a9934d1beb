"""What gates look at: numbers and names about one contribution, measured elsewhere. Bounded, whatever the model's size.

All task vectors are meant without the contribution's weight: a gate judges a checkpoint, not how much of it is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from mergenode.types import Digest, FoldResult, GroupReport

WHOLE = "*"
"""Name of the group that is the whole model."""

DIRECTIONS = 4
"""Of so many leading singular directions the share of the energy is measured."""

MOST_NAMES = 20
"""So many tensor names are listed at most; the number of all of them is told beside."""


class Need(StrEnum):
    """A kind of evidence. What no gate needs is not measured."""

    VALUES = "values"
    """``not_finite``: one pass over the contribution."""
    NORMS = "norms"
    """``norm`` of groups: comes with every fold."""
    HISTORY = "history"
    """``Evidence.history``: from the ledger."""
    MERGE = "merge"
    """``cosine``: comes with a fold, or from the pass when a version of the running merge is at hand."""
    KEPT = "kept"
    """``share_kept``: comes with a fold of a method that projects."""
    SPECTRA = "spectra"
    """``spectra``: one decomposition per matrix, the expensive one."""
    SIGNS = "signs"
    """``sign_conflict``: needs a version of the running merge."""
    FROZEN = "frozen"
    """``frozen_changed``: needs the patterns of ``frozen_patterns``."""
    SCORES = "scores"
    """``scores_before`` and ``scores_after``: the task plug-in."""
    DESCENT = "descent"
    """``descent``: the task plug-in's gradient."""
    SIGNATURE = "signature"
    """``signature``: small files beside the weights, and one digest of every file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupEvidence:
    """One layer group, or the whole model (``*``). ``None``: not measured, or not defined (a norm is zero).

    ``norm``: ||tau||, Frobenius, weight units. ``cosine``: of tau and the running merge before, in [-1, 1].
    ``share_kept``: what the method let in, as a share of ||tau||. ``sign_conflict``: of the sum of |tau| over the
    entries that the running merge moved, the share whose sign opposes it, in [0, 1].
    """

    group: str
    parameters: int
    norm: float
    base_norm: float | None = None
    cosine: float | None = None
    share_kept: float | None = None
    sign_conflict: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixSpectrum:
    """The head of the spectrum of one matrix of a task vector.

    ``rank``: the most directions that it can have: the smaller side, or what the adapter declares. ``energy``:
    ||tau||^2. ``shares``: of the energy, in the first 1, 2, ... ``DIRECTIONS`` directions; ascending, in [0, 1].
    ``factored``: it is given as the factors of an adapter.
    """

    name: str
    rank: int
    energy: float
    shares: tuple[float, ...]
    factored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectraSummary:
    """``shares`` of all matrices that have more than one direction, summarised.

    The excess of one matrix over k directions is (share_k - k/r) / (1 - k/r) with r its ``rank``: 0 when all its
    directions are equally strong, 1 when k of them hold everything; matrices with r <= k say nothing over k.
    ``median[k-1]``: of the excess over matrices, each counted with its energy: one huge matrix counts, a tiny one does
    not. None where no matrix says anything. ``worst``: the matrix of the largest excess over one direction among those
    with at least 1% of the energy. ``adapter``: more than half of the energy is in matrices that are ``factored``.
    """

    matrices: int
    median: tuple[float | None, ...]
    worst: MatrixSpectrum | None = None
    adapter: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """The slope of the objective along a task vector: ``inner`` = <gradient, tau>, and the two norms."""

    inner: float
    gradient_norm: float
    delta_norm: float


class SignatureStatus(StrEnum):
    """What came of checking a detached signature."""

    MISSING = "missing"
    INVALID = "invalid"
    UNTRUSTED = "untrusted"
    VALID = "valid"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureEvidence:
    """``key``: id of the key that signed, as the file claims or, when valid, proved. ``detail``: what is wrong."""

    status: SignatureStatus
    registry: str
    key: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that is known about one contribution. The defaults say that nothing was measured.

    ``groups``: the whole model under ``*``, and layer groups. ``history``: norms of the members of the running merge
    by group, each divided by its member's weight, in any order; without ``*`` there is no history. ``merged``: whether
    there is a running merge to be compared with. ``not_finite`` and ``frozen_changed``: at most ``MOST_NAMES`` tensor
    names, with how many there are in all; None: not looked at. ``content``: digest of the weights that were looked at:
    what was folded may be another file by now.
    """

    label: str = ""
    content: Digest | None = None
    groups: Mapping[str, GroupEvidence] = field(default_factory=dict)
    history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    merged: bool = False
    not_finite: tuple[str, ...] | None = None
    not_finite_count: int = 0
    spectra: SpectraSummary | None = None
    frozen_changed: tuple[str, ...] | None = None
    frozen_changed_count: int = 0
    scores_before: Mapping[str, float] | None = None
    scores_after: Mapping[str, float] | None = None
    descent: Descent | None = None
    signature: SignatureEvidence | None = None

    @property
    def whole(self) -> GroupEvidence | None:
        """The whole model, when anything was measured."""
        return self.groups.get(WHOLE)


def of_fold(result: FoldResult, *, weight: float = 1.0, label: str = "", merged: bool = True) -> Evidence:
    """The evidence that a finished fold brings: norms, cosine, share kept, every value finite.

    Args:
        weight: that the contribution was folded with (not 0); norms are divided by it.
        merged: False for the first contribution, whose cosine and share mean nothing.
    """
    groups = {report.group: _group(report, abs(weight), merged) for report in result.groups}
    content = result.promised or result.content
    return Evidence(label=label, content=content, groups=groups, merged=merged, not_finite=())


def _group(report: GroupReport, weight: float, merged: bool) -> GroupEvidence:
    return GroupEvidence(
        group=report.group,
        parameters=report.parameters,
        norm=report.delta_norm / weight,
        base_norm=report.base_norm,
        cosine=report.cosine if merged else None,
        share_kept=report.share_kept if merged else None,
    )


def with_history(evidence: Evidence, history: Mapping[str, tuple[float, ...]]) -> Evidence:
    """The same evidence beside the norms of the members of the running merge."""
    return replace(evidence, history=history)


def joined(fold: Evidence, measured: Evidence) -> Evidence:
    """What a fold and what an inspection found about one contribution, in one; where both know, the inspection's.

    An inspection cannot know ``share_kept``, and has no cosine when no version of the running merge was at hand.
    """
    groups = dict(fold.groups)
    for name, group in measured.groups.items():
        known = groups.get(name, group)
        groups[name] = replace(
            group,
            base_norm=known.base_norm if group.base_norm is None else group.base_norm,
            cosine=known.cosine if group.cosine is None else group.cosine,
            share_kept=known.share_kept,
        )
    return replace(
        measured,
        label=measured.label or fold.label,
        content=measured.content or fold.content,
        groups=groups,
        history=measured.history or fold.history,
        merged=measured.merged or fold.merged,
        not_finite=fold.not_finite if measured.not_finite is None else measured.not_finite,
        not_finite_count=fold.not_finite_count if measured.not_finite is None else measured.not_finite_count,
    )
