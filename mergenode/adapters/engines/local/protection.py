"""Capabilities that contributions must not harm: their Fishers opened, a contribution measured, its entries vetoed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from math import inf, sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.contribution import Dense, open_contribution
from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.checkpoints.side_cars import check_fisher, fisher_places
from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.adapters.engines.local.incoming import Source, Vetoes, incoming
from mergenode.adapters.engines.local.own_files import reading_own
from mergenode.adapters.engines.local.pipeline import Step
from mergenode.adapters.engines.local.shards import shard_layout
from mergenode.adapters.engines.local.tensors import accumulator_dtype, read_slice, slices
from mergenode.errors import FatalError
from mergenode.maths.veto import BINS, count_rises, total_rise, veto, veto_bytes, veto_threshold
from mergenode.types import Kind, TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """A declared capability. ``identities``: of its files when they were read first; ``terms``: what decides bytes."""

    name: str
    fisher: Path
    checkpoint: Path | None
    max_rise: float | None
    max_share: float | None
    identities: tuple[tuple[str, int, int], ...] = ()
    terms: Mapping[str, Any] = field(default_factory=dict)


def describe_protection(asked: Protection, base: BaseModel, limits: Limits) -> Protection:
    """The same, read once and held against the base: every value of the Fisher, the names of both files.

    Raises FatalError when one of them cannot be used, TransientError when it cannot be read now.
    """
    with reading_own(f"protection {asked.name}"), ExitStack() as stack:
        files = stack.enter_context(_open(asked.fisher, limits))
        fisher_places(files, base)
        for spec in files.specs.values():
            for bounds in slices(spec, whole=False):
                values, _ = read_slice(files, spec, *bounds)
                check_fisher(values, partial("{}: tensor {!r}".format, asked.fisher.name, spec.name))
        anchor = None if asked.checkpoint is None else _anchor(asked, base, limits, stack)
        digests = [
            None if path is None else content_digest(path, root=trusted_root(path), limits=limits)
            for path in (asked.fisher, asked.checkpoint)
        ]
        found = _identities(files, anchor)
    return Protection(
        name=asked.name, fisher=asked.fisher, checkpoint=asked.checkpoint, max_rise=asked.max_rise,
        max_share=asked.max_share, identities=found,
        terms={
            "fisher": digests[0], "checkpoint": digests[1], "max_rise": asked.max_rise, "max_share": asked.max_share,
        },
    )  # fmt: skip


@dataclass(slots=True)
class Guard(Vetoes):
    """The protections of one contribution, opened. ``thresholds`` are known after the pass of ``RisePass``."""

    protections: Sequence[Protection]
    files: list[WeightFiles] = field(default_factory=list)
    places: list[Mapping[str, str]] = field(default_factory=list)
    anchors: list[Source | None] = field(default_factory=list)
    counts: list[Tensor] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)

    def read(self, name: str, start: int, stop: int) -> dict[str, Tensor]:
        """What the vetoes of a slice of the base tensor ``name`` take, under keys of their own."""
        found: dict[str, Tensor] = {}
        for number, (files, places, anchor) in enumerate(zip(self.files, self.places, self.anchors, strict=True)):
            if name not in places:
                continue
            with reading_own("protection"):
                found[_key(number, "fisher")] = read_slice(files, files.specs[places[name]], start, stop)[0]
                entry = anchor.entry(name) if anchor is not None else None
                if anchor is not None and isinstance(entry, Dense):
                    weights = anchor.contribution.weights
                    found[_key(number, "anchor")] = read_slice(weights, weights.specs[entry.source], start, stop)[0]
        return found

    def apply(self, parts: dict[str, Tensor], delta: Tensor, tuned: Tensor | None, base: Tensor) -> float:
        """Veto entries of a slice, in place; takes what was read for it out of ``parts``. Their squared norm."""
        lost = 0.0
        for number, fisher, away in self._opened(parts, base):
            lost += veto(delta, fisher, self.thresholds[number], away=away, tuned=tuned, base=base)
        return lost

    def count(self, parts: dict[str, Tensor], delta: Tensor, base: Tensor) -> list[tuple[int, Tensor]]:
        """The rises of a slice by protection, in bins."""
        return [(number, count_rises(fisher, delta, away)) for number, fisher, away in self._opened(parts, base)]

    def _opened(self, parts: dict[str, Tensor], base: Tensor) -> Iterator[tuple[int, Tensor, Tensor | None]]:
        for number in range(len(self.protections)):
            fisher = parts.pop(_key(number, "fisher"), None)
            anchor = parts.pop(_key(number, "anchor"), None)
            if fisher is not None:
                away = None if anchor is None else base - anchor.to(device=base.device, dtype=base.dtype)
                yield number, fisher.to(device=base.device), away

    def settle(self) -> None:
        """Turn what was counted into thresholds."""
        self.thresholds = [
            veto_threshold(counts, max_rise=each.max_rise, max_share=each.max_share)
            for each, counts in zip(self.protections, self.counts, strict=True)
        ]

    def report(self) -> list[dict[str, Any]]:
        """By protection: the predicted rise that was offered, what is left of it, the threshold (None: no veto)."""
        return [
            {
                "name": each.name,
                "offered": total_rise(counts),
                "left": total_rise(counts, threshold),
                "threshold": None if threshold == inf else threshold,
            }
            for each, counts, threshold in zip(self.protections, self.counts, self.thresholds, strict=True)
        ]


def open_guard(protections: Sequence[Protection], base: BaseModel, limits: Limits, stack: ExitStack) -> Guard:
    """Open what these protections need; the files are closed by ``stack``.

    Raises FatalError when they are no longer those that were read at the start: vetoes would be other ones.
    """
    guard = Guard(protections)
    for each in protections:
        with reading_own(f"protection {each.name}"):
            files = stack.enter_context(_open(each.fisher, limits))
            anchor = None if each.checkpoint is None else _anchor(each, base, limits, stack)
            if _identities(files, anchor) != each.identities:
                raise FatalError(
                    f"protect {each.name}: its files were written to while the node was running",
                    hint="Start the node again: it checks that they are still those the state directory was made with.",
                )
            guard.files.append(files)
            guard.places.append(fisher_places(files, base))
            guard.anchors.append(anchor)
            guard.counts.append(torch.zeros(BINS, dtype=torch.int64))
    return guard


@dataclass(slots=True, kw_only=True)
class RisePass:
    """Counts the predicted rises of ``source`` over the whole model into its guard; reads, writes nothing."""

    base: BaseModel
    base_files: WeightFiles
    source: Source
    guard: Guard
    device: torch.device
    advanced: Callable[[int, int], None] = lambda tensors, nbytes: None

    def close(self) -> None:
        """Nothing is held open."""

    def steps(self) -> Iterator[Step]:
        """One step per slice of a tensor that both the contribution and a protection speak of."""
        apart = self.source.apart()  # without vetoes: they are what this pass finds
        for spec in (spec for specs in shard_layout(self.base) for spec in specs):
            entry = apart.entry(spec.name)
            if entry is None or not any(spec.name in places for places in self.guard.places):
                continue
            wide = accumulator_dtype(spec).itemsize
            for bounds in slices(spec, whole=False):
                elements = bounds[1] - bounds[0]
                need = elements * (2 * spec.dtype.size + 3 * wide) + protect_bytes(self.guard.protections, elements)
                yield Step(
                    need_bytes=need + apart.factor_bytes(entry, wide),
                    read=partial(self._read, apart, spec, bounds),
                    compute=partial(self._compute, apart, spec, bounds),
                    write=partial(self._write, spec, bounds),
                )

    def _read(self, source: Source, spec: TensorSpec, bounds: tuple[int, int]) -> dict[str, Tensor]:
        entry = source.entry(spec.name)
        assert entry is not None  # there are steps only where there is one
        with reading_own("base"):
            base, _ = read_slice(self.base_files, spec, *bounds)
        return {"": base} | source.read(entry, *bounds) | self.guard.read(spec.name, *bounds)

    def _compute(
        self, source: Source, spec: TensorSpec, bounds: tuple[int, int], parts: dict[str, Tensor]
    ) -> list[tuple[int, Tensor]]:
        base = parts.pop("").to(device=self.device, dtype=accumulator_dtype(spec))
        entry = source.entry(spec.name)
        assert entry is not None
        arrived = incoming(spec, entry, parts, base, bounds, source.weight_of(spec.name), first=False)
        return self.guard.count(parts, arrived.delta, base)

    def _write(self, spec: TensorSpec, bounds: tuple[int, int], found: list[tuple[int, Tensor]]) -> None:
        for number, counts in found:
            self.guard.counts[number] += counts
        self.advanced(int(bounds[1] == spec.numel), (bounds[1] - bounds[0]) * spec.dtype.size)


def protect_bytes(protections: Sequence[Protection], elements: int) -> int:
    """Most bytes that the vetoes of one contribution take in a step of so many elements."""
    if not protections:
        return 0
    anchors = sum(each.checkpoint is not None for each in protections)
    return elements * (8 * len(protections) + 8 * anchors + 16 * min(1, anchors)) + veto_bytes(elements)


def vetoed_report(guard: Guard, groups: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """What a fact tells of the vetoes. ``groups``: squared norms (vetoed, entered) by layer group, ``*`` the whole."""
    shares = {name: lost / (lost + kept) for name, (lost, kept) in groups.items() if lost > 0.0}
    whole = groups.get("*", (0.0, 0.0))
    return {
        "share": whole[0] / sum(whole) if whole[0] > 0.0 else 0.0,
        "norm": sqrt(whole[0]),
        "groups": {name: share for name, share in shares.items() if name != "*"},
        "by": guard.report(),
    }


def _open(path: Path, limits: Limits) -> WeightFiles:
    return open_weights(path, root=trusted_root(path), limits=limits)


def _anchor(asked: Protection, base: BaseModel, limits: Limits, stack: ExitStack) -> Source:
    assert asked.checkpoint is not None
    root = trusted_root(asked.checkpoint)
    opened = stack.enter_context(open_contribution(asked.checkpoint, base, root=root, limits=limits))
    if opened.kind is not Kind.FULL:
        raise FatalError(
            f"protect {asked.name}: {asked.checkpoint} is an adapter",
            hint="Merge it into the base model (peft: merge_and_unload) and name the full checkpoint.",
        )
    return Source(opened, 1.0, asked.name)


def _identities(files: WeightFiles, anchor: Source | None) -> tuple[tuple[str, int, int], ...]:
    return (*files.identities(), *(anchor.contribution.weights.identities() if anchor is not None else ()))


def _key(number: int, what: str) -> str:
    """Among parts: no tensor of a checkpoint has NUL in its name."""
    return f"protect\0{number}\0{what}"
