"""What the largest step of an export needs, known before anything is read."""

from __future__ import annotations

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.engines.local.export import output_spec
from mergenode.adapters.engines.local.tensors import accumulator_dtype, needs_whole_export, slices
from mergenode.adapters.engines.local.updates import export_bytes
from mergenode.methods.contract import Method
from mergenode.methods.rescale import is_chosen_later
from mergenode.types import DType, TensorSpec


def largest_export(base: BaseModel, method: Method, dtype: DType | None) -> tuple[int, TensorSpec | None]:
    """The step of an export that needs the most memory, in bytes, and its tensor; None for a base without weights.

    Counted for every merged tensor as if something had been folded into it. With a scale that is chosen later whole
    tensors are written in accumulator dtype, otherwise in the published one.
    """
    largest: tuple[int, TensorSpec | None] = (0, None)
    for spec in base.specs.values():
        if not spec.dtype.is_float:
            continue
        known = base.specs[base.aliases.get(spec.name, spec.name)]
        whole = needs_whole_export(method, known)
        output = output_spec(spec, dtype).dtype.size
        if is_chosen_later(method):
            output = max(output, accumulator_dtype(spec).itemsize)
        need = export_bytes(method, known, slices(spec, whole=whole)[0], output, whole=whole)
        if need > largest[0]:
            largest = (need, spec)
    return largest
