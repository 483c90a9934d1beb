"""Rules for taking tensors apart: indexing, and cutting an axis into pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mergenode.mixers.axes import Axes, Axis
from mergenode.mixers.labels import Labelled, Labels, Operand, Structure, Unsupported


def getitem(
    structure: Structure, operands: Sequence[Operand], named: Mapping[str, Operand], shape: tuple[int, ...]
) -> Labels:
    """``value[index]`` with integers, slices, None and an ellipsis.

    An integer names one unit, so the units of that axis stay in their order.
    """
    value, index = operands
    assert isinstance(value, Labelled)
    items = list(index) if isinstance(index, tuple) else [index]
    if any(isinstance(item, Labelled | list | bool) for item in items):
        raise Unsupported("an index that is a tensor")
    used = sum(item is not None and item is not Ellipsis for item in items)
    at = next((k for k, item in enumerate(items) if item is Ellipsis), len(items))
    items[at : at + 1] = [slice(None)] * (len(value.shape) - used)
    result: list[Axis] = []
    dims = iter(zip(value.axes, value.shape, strict=True))
    for item in items:
        if item is None:
            result.append(())
            continue
        axis, size = next(dims)
        if isinstance(item, int):
            structure.atoms.pin(axis)
        elif shape[len(result)] == size:
            result.append(axis)
        else:
            structure.require_fixed([axis], "a slice of units that are permuted")
            result.append(structure.atoms.fixed(shape[len(result)]))
    return tuple(result)


def select(
    structure: Structure, operands: Sequence[Operand], named: Mapping[str, Operand], shape: tuple[int, ...]
) -> Labels:
    """``value.select(dim, index)``."""
    value, dim, _ = (*operands, *named.values())
    assert isinstance(value, Labelled) and isinstance(dim, int)
    structure.atoms.pin(value.axes[dim])
    return tuple(axis for place, axis in enumerate(value.axes) if place != dim % len(value.axes))


def pieces(
    structure: Structure, operands: Sequence[Operand], named: Mapping[str, Operand], shape: tuple[int, ...]
) -> Labels:
    """``chunk``, ``split`` and ``unbind``; ``shape`` is that of the first piece and, ahead of it, how many there are.

    Pieces of equal size share one permutation: right for the two halves of a gated layer, and one of several
    possible symmetries for queries, keys and values in one matrix. Units of pieces of different sizes stay in order.
    """
    value = operands[0]
    assert isinstance(value, Labelled)
    count, *piece = shape
    unbound = len(piece) < len(value.shape)
    given = named.get("dim", operands[-1] if len(operands) == 3 or (unbound and len(operands) == 2) else 0)
    assert isinstance(given, int)
    dim = given % len(value.shape)
    if unbound:
        structure.atoms.pin(value.axes[dim])
        return [_without(value.axes, dim)] * count
    if piece[dim] * count != value.shape[dim]:
        raise Unsupported("pieces of different sizes")
    outer, inner = structure.atoms.regroup((value.axes[dim],), (count, piece[dim]))
    structure.atoms.pin(outer)
    return [(*value.axes[:dim], inner, *value.axes[dim + 1 :])] * count


def _without(axes: Axes, dim: int) -> Axes:
    return tuple(axis for place, axis in enumerate(axes) if place != dim)
