"""Axes of tensors as products of atoms, and what is known about which atoms are the same.

An *atom* is a set of units that are permuted together; an *axis* of a tensor is a product of atoms, outermost first, so
an axis of heads x units is ``(head, unit)`` and flattened channels x places are ``(channel, place)``. Atoms are
*pinned* where a permutation would change what the network computes: inputs, outputs, places, batches.

Everything that is learned about atoms only ever joins, splits or pins them. What is left in the end is the finest
structure for which every operation that was seen commutes with the permutations.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

Axis = tuple[int, ...]
"""Atoms, outermost first; empty for an axis of size one."""

Axes = tuple[Axis, ...]
"""One axis per dimension of a tensor."""


class Unmatched(Exception):
    """Two axes do not factor in the same way, so no permutation of one is a permutation of the other."""


class Atoms:
    """A union-find over atoms that can be split. Not for several threads."""

    def __init__(self) -> None:
        self._size: list[int] = []
        self._origin: list[str] = []
        self._joined: list[int] = []
        self._parts: dict[int, tuple[int, int]] = {}
        self._pinned: set[int] = set()
        self._outer: dict[int, set[int]] = {}

    def fresh(self, size: int, origin: str, *, pinned: bool = False) -> Axis:
        """A new axis of ``size`` units. ``origin`` names it to people."""
        if size == 1:
            return ()
        atom = len(self._size)
        self._size.append(size)
        self._origin.append(origin)
        self._joined.append(atom)
        if pinned:
            self._pinned.add(atom)
        return (atom,)

    def fixed(self, size: int) -> Axis:
        """A new axis whose units stay where they are."""
        return self.fresh(size, "", pinned=True)

    def size(self, atom: int) -> int:
        return self._size[atom]

    def origin(self, atom: int) -> str:
        return self._origin[atom]

    def is_pinned(self, axis: Axis) -> bool:
        """True when no unit of the axis moves."""
        return all(atom in self._pinned for atom in self.expand(axis))

    def expand(self, axis: Axis) -> Axis:
        """The same axis in the atoms that stand for it now."""
        result: list[int] = []
        for atom in axis:
            root = self._root(atom)
            result.extend(self.expand(self._parts[root]) if root in self._parts else (root,))
        return tuple(result)

    def outer(self, atom: int) -> int | None:
        """The atom that this one was split from as the inner factor, when it is one and can move."""
        candidates = {part for outer in self._outer.get(atom, ()) for part in self.expand((outer,))} - self._pinned
        return candidates.pop() if len(candidates) == 1 else None

    def pin(self, axis: Axis) -> None:
        self._pinned.update(self.expand(axis))

    def unify(self, first: Axis, second: Axis) -> None:
        """Whatever permutes one axis permutes the other.

        Raises:
            Unmatched: their sizes differ, or they factor differently.
        """
        left, right = self.expand(first), self.expand(second)
        while left and right:
            a, b = left[0], right[0]
            small, large = sorted((a, b), key=self.size)
            if self.size(small) == self.size(large):
                self._join(a, b)
                left, right = left[1:], right[1:]
            elif self.size(large) % self.size(small) == 0:
                self._split(large, self.size(small))
            elif not self._pinned.isdisjoint((a, b)):
                self.pin(left)
                self.pin(right)
                return
            else:
                raise Unmatched(f"units in blocks of {self.size(small)} meet blocks of {self.size(large)}")
            left, right = self.expand(left), self.expand(right)
        if left or right:
            raise Unmatched("axes of different sizes meet")

    def regroup(self, axes: Axes, shape: Sequence[int]) -> Axes:
        """The axes after a row-major reshape to ``shape``, which has as many elements.

        Raises:
            Unmatched: a new axis would hold a part of the units of a block.
        """
        left = self._melt(tuple(atom for axis in axes for atom in axis))
        result: list[Axis] = []
        for size in shape:
            taken: list[int] = []
            while (wanted := size // prod(map(self.size, taken))) > 1:
                atom = left[0]
                if wanted % self.size(atom) == 0:
                    taken.append(atom)
                    left = left[1:]
                elif self.size(atom) % wanted == 0:
                    self._split(atom, wanted)
                    left = self.expand(left)
                else:
                    raise Unmatched(f"a reshape of {self.size(atom)} units to {wanted} cuts through a block")
            result.append(tuple(taken))
        return tuple(result)

    def _melt(self, axis: Axis) -> Axis:
        """Neighbouring pinned atoms become one, so that they can be cut anywhere."""
        result: list[int] = []
        for atom in self.expand(axis):
            if result and atom in self._pinned and result[-1] in self._pinned:
                result[-1:] = self.fixed(self.size(result[-1]) * self.size(atom))
            else:
                result.append(atom)
        return tuple(result)

    def _root(self, atom: int) -> int:
        while self._joined[atom] != atom:
            atom = self._joined[atom]
        return atom

    def _join(self, a: int, b: int) -> None:
        first, second = sorted((a, b))
        if first == second:
            return
        self._joined[second] = first
        self._outer.setdefault(first, set()).update(self._outer.pop(second, set()))
        self._origin[first] = self._origin[first] or self._origin[second]
        if second in self._pinned:
            self._pinned.add(first)

    def _split(self, atom: int, outer_size: int) -> None:
        pinned, origin = atom in self._pinned, self._origin[atom]
        (outer,) = self.fresh(outer_size, origin and f"{origin} in {outer_size} blocks", pinned=pinned)
        (inner,) = self.fresh(self._size[atom] // outer_size, origin and f"{origin} within blocks", pinned=pinned)
        self._parts[atom] = (outer, inner)
        self._outer[outer] = self._outer.pop(atom, set())
        self._outer[inner] = {outer}
