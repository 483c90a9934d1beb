"""The contract of a merge method: pure functions over per-tensor sufficient statistics.

Every merge method is an online algorithm. For each tensor it keeps *statistics* (a mapping of named tensors, empty
before the first contribution), and for the whole model a handful of additive scalars, the *totals*. A method never
sees files, names of checkpoints, clocks or logs: tensors and numbers come in, tensors and numbers go out.

An *elementwise* method may be handed any slice of the flattened tensor instead of the whole; the engine asks
``elementwise(spec)`` per tensor. Slices lie on a fixed grid, so that sums come out the same on every machine.

What a slice's fold depends on beyond the slice (a threshold over the whole tensor) a method finds by a *survey*: it
reads the delta piece by piece before the first slice is folded, and gets its own answer back with every slice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from mergenode.maths.magnitude import Pieces
from mergenode.methods.layouts import Layout
from mergenode.types import TensorSpec

Statistics = Mapping[str, Tensor]
"""Named tensors of one weight. Empty: nothing folded.

Accumulator dtype (float32; float64 for float64 weights), or an integer type for counts. Where the method is elementwise
each has one element per element of the weight; elsewhere any shape. At most four per weight.
"""

Sums = Mapping[str, float]
"""Additive scalars of one weight (or slice): squared norms, inner products. Summed in fp64 over the whole model."""


class Incoming(NamedTuple):
    """What one contribution says about one tensor.

    ``delta`` is ``weight * (tuned - base)``, accumulator dtype. ``tuned`` holds the tuned weights themselves when they
    are known exactly (a dense contribution of weight 1), else None: a method that returns its first contribution
    unchanged keeps them, because ``base + (tuned - base)`` is not always ``tuned`` in floating point.
    Neither tensor may be modified. ``observe`` False: nobody looks at the merge between this fold and the next, so an
    elementwise method that does not need totals may leave out every sum but ``delta_sq`` and ``kept_sq``, and may
    overwrite the statistics it is given.
    ``content``: a digest of the stored bytes that the tensor was made of (the dense tensor, or both factors of a
    low-rank product). Known for whole tensors, and for slices where ``Method.needs_content``; else empty. The same
    wherever and whenever the contribution is folded, so what a method draws at random from it can be drawn again for a
    replay or a retraction, on any node.
    ``side``: what side-car files next to the contribution say about this tensor, by the names of ``Method.needs``, in
    accumulator dtype: the same slice as ``delta`` where a side-car has the weight's shape, else whole. Empty for
    methods that need nothing, and for tensors that no side-car mentions. With ``fisher`` comes ``fisher_rms``, the root
    mean square of the whole side-car, a scalar.
    ``weight``: the factor that is in ``delta`` already, for methods that weigh contributions against each other.
    ``surveyed``: what ``Method.survey`` answered for the tensor that ``delta`` is a slice of; None where ``delta`` is
    the whole tensor or the method has no survey. ``start``: where ``delta`` begins in the flattened tensor.
    """

    delta: Tensor
    tuned: Tensor | None = None
    observe: bool = True
    content: str = ""
    side: Mapping[str, Tensor] = {}
    weight: float = 1.0
    surveyed: float | None = None
    start: int = 0


class Folded(NamedTuple):
    """New statistics, the additive sums of this fold, and non-additive observations for the report."""

    statistics: Statistics
    sums: Sums
    observed: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A merge method as a value.

    fold(spec, statistics, base, incoming) -> Folded
        One contribution enters. ``base`` in accumulator dtype, same shape as ``incoming.delta``. Inputs are never
        modified. ``sums`` always holds ``delta_sq`` = ||delta||^2, ``kept_sq`` = squared norm of what entered and
        ``merge_sq`` = squared norm of the new running sum; a method adds its own. ``dot`` = <delta, running sum
        before> may be left out where everything enters: it then follows from the others and from ``merge_sq`` of the
        fold before, and an inner product over the whole model is saved. ``delta_sq`` is exact (``maths.norms``), and
        so is what ``advance`` makes weights depend on; other sums may be of fp32 accuracy, for people to look at.
        A tensor that a contribution does not mention is not folded: its statistics stay, its ``merge_sq`` too.
    advance(totals, sums, weight) -> totals
        Whole-model scalars after the fold, from those before it and the sums over all tensors.
    export(spec, statistics, base, totals) -> weights
        Published weights in accumulator dtype. With empty statistics this is ``base``.
        The result may be one of the inputs.
    combine(spec, statistics, statistics, base) -> statistics
        Two merges of different contributions become one. None when the method cannot (see ``combinable``).
    retract(spec, statistics, base, incoming) -> Folded
        As if the contribution had never been folded. None when the method cannot (see ``retractable``).
    withdraw(totals, sums, weight) -> totals
        The inverse of ``advance``, with the sums of ``retract``. None when the method can neither retract nor is
        ``idempotent``; there ``sums`` is ``delta_sq`` alone.
    pool(totals, totals) -> totals
        Totals of two merges of different contributions. None when the method cannot combine.
    """

    name: str
    reference: str
    options: Mapping[str, object]
    fold: Callable[[TensorSpec, Statistics, Tensor, Incoming], Folded]
    advance: Callable[[Mapping[str, float], Sums, float], Mapping[str, float]]
    export: Callable[[TensorSpec, Statistics, Tensor, Mapping[str, float]], Tensor]
    elementwise: Callable[[TensorSpec], bool]
    working_bytes: Callable[[TensorSpec], int]
    """Peak bytes that ``fold`` or ``export`` allocates beyond inputs and outputs for a whole tensor of this spec, and
    ``survey`` beyond what it reads.

    Of ``fold`` alone where ``export_bytes`` is given. Callers ask ``bytes_to_export`` for the other.
    """
    needs_totals: bool
    """True when ``export`` needs sums over the whole model, so that publishing is a second pass."""
    exact: bool
    commutative: bool
    state_factor: Callable[[TensorSpec], float]
    """Most bytes that the statistics of this tensor ever take, over its weights' bytes in accumulator dtype."""
    needs: frozenset[str] = frozenset()
    """Side-cars that a contribution must bring: ``fisher``, ``gram``. Empty: weights are enough."""
    sides: Callable[[TensorSpec], frozenset[str]] = lambda spec: frozenset()
    """Those of ``needs`` that ``fold`` of this tensor looks at; others are not read into memory."""
    ignores_untouched: bool = False
    """True when a tensor that a contribution does not mention is not voted on by it, while one that it holds unchanged
    is: then an adapter differs from the full checkpoint made of it, in the tensors that the adapter leaves alone."""
    needs_content: bool = False
    """True when ``fold`` looks at ``Incoming.content``: of a tensor in slices everything is read twice then."""
    survey: Callable[[TensorSpec, Pieces], float] | None = None
    """What ``fold`` and ``retract`` of a slice need to know of the whole delta, which is read piece by piece: see
    ``Incoming.surveyed``. Asked for elementwise tensors of several slices. Any number where the delta is not finite."""
    uses_totals: Callable[[TensorSpec], bool] = lambda spec: True
    """False when ``export`` of this tensor is a function of its statistics alone: then it stays when they do."""
    own_scale: Callable[[Mapping[str, float]], float] = lambda totals: 1.0
    """Factor of the merged task vector that the method itself chooses after these totals; see ``scaling``."""
    exports_whole: Callable[[TensorSpec], bool] = lambda spec: False
    """True when ``export`` needs this tensor whole (a decomposition); else it may be handed slices, as ``fold`` may
    where the method is elementwise."""
    export_bytes: Callable[[TensorSpec], int] | None = None
    """What ``export`` allocates, where that is another number than for ``fold``."""
    combine: Callable[[TensorSpec, Statistics, Statistics, Tensor], Statistics] | None = None
    retract: Callable[[TensorSpec, Statistics, Tensor, Incoming], Folded] | None = None
    withdraw: Callable[[Mapping[str, float], Sums, float], Mapping[str, float]] | None = None
    idempotent: bool = False
    """True when ``combine`` counts a contribution once that is in both, with the same weight (a maximum, not a sum)."""
    pool: Callable[[Mapping[str, float], Mapping[str, float]], Mapping[str, float]] | None = None
    layouts: Callable[[TensorSpec], tuple[Layout, ...]] = lambda spec: ()
    """What the statistics of this tensor may look like, besides empty. Given by every method that combines."""

    @property
    def combinable(self) -> bool:
        return self.combine is not None

    @property
    def retractable(self) -> bool:
        return self.retract is not None

    def bytes_to_export(self, spec: TensorSpec) -> int:
        """Peak bytes that ``export`` allocates beyond inputs and output for a whole tensor of this spec."""
        return (self.export_bytes or self.working_bytes)(spec)
