"""Sums of many float64 numbers in little memory, by layer group."""

from __future__ import annotations

from collections.abc import Iterable

from mergenode.ledger.groups import layer_group
from mergenode.maths.norms import exact_total
from mergenode.ports.pool import WHOLE

_PENDING = 256


class GroupSums:
    """Adds numbers per layer group: correctly rounded sums of up to 256 numbers, and of those sums.

    The error is below an ulp of the largest partial sum for every 256 numbers, whatever the signs. Sums that overflow
    are infinite or NaN.
    """

    def __init__(self, tensors: Iterable[str] = ()) -> None:
        """``tensors``: their groups are there from the start, with sums of 0."""
        self._parts: dict[str, list[float]] = {layer_group(tensor): [] for tensor in tensors}

    def add(self, tensor: str, value: float) -> None:
        """One more number of the group that a tensor belongs to."""
        parts = self._parts.setdefault(layer_group(tensor), [])
        parts.append(value)
        if len(parts) >= _PENDING:
            parts[:] = [exact_total(parts)]

    def totals(self) -> dict[str, float]:
        """By layer group in the order of their first numbers, ``WHOLE`` first."""
        groups = {group: exact_total(parts) for group, parts in self._parts.items()}
        return {WHOLE: exact_total([value for parts in self._parts.values() for value in parts]), **groups}
