"""Surveys: what a method must know of whole deltas before it is given slices of them, from a pass of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from mergenode.adapters.checkpoints.contribution import Entry, LowRank
from mergenode.adapters.engines.local.incoming import Source, incoming
from mergenode.adapters.engines.local.tensors import accumulator_dtype, slices
from mergenode.maths.magnitude import Pieces
from mergenode.methods.contract import Incoming, Method
from mergenode.types import TensorSpec


class Foreknown(NamedTuple):
    """What is known about a source's word on a tensor before the first slice is folded: see ``Incoming``."""

    surveyed: float | None = None
    content: str = ""


NOTHING = Foreknown()

ReadBase = Callable[[int, int], Tensor]
"""Elements ``start`` to ``stop`` of the base's tensor, as stored."""

Counted = Callable[[int], None]
"""Told bytes that were read of contributions."""


def survey(
    method: Method, spec: TensorSpec, sources: Sequence[Source], entries: Sequence[Entry | None], read_base: ReadBase,
    counted: Counted,
) -> list[Foreknown]:  # fmt: skip
    """Find out about every contribution to a tensor what the method must know. Reads on the calling thread."""
    return [
        NOTHING if entry is None else _survey_one(method, spec, source, entry, read_base, counted)
        for source, entry in zip(sources, entries, strict=True)
    ]


def _survey_one(
    method: Method, spec: TensorSpec, source: Source, entry: Entry, read_base: ReadBase, counted: Counted
) -> Foreknown:
    answer, content = None, ""
    if method.survey is not None:
        answer = method.survey(spec, _delta_in_pieces(spec, source.apart(vetoed=True), entry, read_base, counted))
    if method.needs_content:
        content = _content(spec, source, entry, counted)
    return Foreknown(answer, content)


def _content(spec: TensorSpec, source: Source, entry: Entry, counted: Counted) -> str:
    """``Source.content_of`` before the fold has read everything."""
    apart = source.apart(hashing=True)
    ranges = slices(spec, whole=False)
    for bounds in ranges[:1] if isinstance(entry, LowRank) else ranges:  # factors are read whole
        _read(spec, apart, entry, bounds, counted)
    return apart.content_of(entry)


def _delta_in_pieces(spec: TensorSpec, apart: Source, entry: Entry, read_base: ReadBase, counted: Counted) -> Pieces:
    def read(start: int, stop: int) -> Tensor:
        base = read_base(start, stop).to(dtype=accumulator_dtype(spec))
        parts = _read(spec, apart, entry, (start, stop), counted)
        return arriving(spec, (apart, entry, parts), base, (start, stop), first=False)[0].delta

    return Pieces(read, slices(spec, whole=False))


def _read(
    spec: TensorSpec, apart: Source, entry: Entry, bounds: tuple[int, int], counted: Counted
) -> dict[str, Tensor]:
    parts = apart.read(entry, *bounds, spec.name)
    counted(0 if isinstance(entry, LowRank) else sum(part.nbytes for part in parts.values()))
    return parts


def surveys(method: Method) -> bool:
    """Whether the method must know something of a tensor before its slices are folded."""
    return method.survey is not None or method.needs_content


def is_surveyed(method: Method, spec: TensorSpec, bounds: tuple[int, int]) -> bool:
    """Whether a slice is folded with what a survey of the tensor says."""
    return surveys(method) and bounds[1] - bounds[0] < spec.numel


def arriving(
    spec: TensorSpec, contribution: tuple[Source, Entry, dict[str, Tensor]], base: Tensor, bounds: tuple[int, int],
    *, first: bool,
) -> tuple[Incoming, float | None]:  # fmt: skip
    """What a contribution says about a slice, and the squared norm of what was vetoed of it (None: nothing is).

    Vetoed before the method sees it: it was never there, whatever the method, and comes out again exactly.
    """
    source, entry, parts = contribution
    arrived = incoming(spec, entry, parts, base, bounds, source.weight_of(spec.name), first=first)
    if source.vetoes is None:
        return arrived, None
    return arrived, source.vetoes.apply(parts, arrived.delta, arrived.tuned, base)
