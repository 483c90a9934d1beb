"""Surveys: what a method must know of whole deltas before it is given slices of them, from a pass of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from mergenode.adapters.checkpoints.contribution import Entry, LowRank
from mergenode.adapters.engines.local.incoming import Source, incoming
from mergenode.adapters.engines.local.tensors import accumulator_dtype, slices
from mergenode.maths.magnitude import Pieces
from mergenode.methods.contract import Incoming, Method
from mergenode.types import TensorSpec

Found = list[float | None]
"""What was found about each source; None where it says nothing about the tensor."""

ReadBase = Callable[[int, int], Tensor]
"""Elements ``start`` to ``stop`` of the base's tensor, as stored."""

Counted = Callable[[int], None]
"""Told bytes that were read of contributions."""


def survey(
    method: Method, spec: TensorSpec, sources: Sequence[Source], entries: Sequence[Entry | None], read_base: ReadBase,
    counted: Counted,
) -> Found:  # fmt: skip
    """Ask the method about the delta of every contribution to a tensor. Reads on the calling thread."""
    ask = method.survey
    assert ask is not None  # only methods that have one are asked
    return [
        None if entry is None else ask(spec, _delta_in_pieces(spec, source.apart(), entry, read_base, counted))
        for source, entry in zip(sources, entries, strict=True)
    ]


def _delta_in_pieces(spec: TensorSpec, apart: Source, entry: Entry, read_base: ReadBase, counted: Counted) -> Pieces:
    def read(start: int, stop: int) -> Tensor:
        base = read_base(start, stop).to(dtype=accumulator_dtype(spec))
        parts = apart.read(entry, start, stop, spec.name)
        counted(0 if isinstance(entry, LowRank) else sum(part.nbytes for part in parts.values()))
        return arriving(spec, (apart, entry, parts), base, (start, stop), first=False)[0].delta

    return Pieces(read, slices(spec, whole=False))


def is_surveyed(method: Method, spec: TensorSpec, bounds: tuple[int, int]) -> bool:
    """Whether a slice is folded with what a survey of the tensor says."""
    return method.survey is not None and bounds[1] - bounds[0] < spec.numel


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
