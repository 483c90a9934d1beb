"""The permutations under which a network computes the same, and how tensors follow them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, fx

State = Mapping[str, Tensor]
"""A ``state_dict``."""

Permutations = Mapping[str, Tensor]
"""Per group int64 ``[size]``, or ``[outer size, size]`` where the group is permuted apart in each outer unit.

Unit k of the result is unit ``p[k]`` of the input; within outer unit j of the result it is ``p[j][k]`` of the outer
unit that came to j.
"""


@dataclass(frozen=True, slots=True)
class Group:
    """Units that are permuted together wherever they occur. ``outer``: the group within whose units they lie
    (attention heads), each of which has its own permutation."""

    name: str
    size: int
    outer: str | None = None


class Factor(NamedTuple):
    """One factor of an axis: ``size`` units of ``group``, which lies within ``outer``; None: in fixed order."""

    size: int
    group: str | None = None
    outer: str | None = None


Layout = tuple[tuple[Factor, ...], ...]
"""The factors of each dimension of a tensor, outermost first."""


@dataclass(frozen=True, slots=True)
class Symmetry:
    """What ``graph.derive`` finds. ``program`` computes what the model computes and shares its parameters.

    groups: in the order of the forward pass, outer before inner.
    tensors: layout of every entry of the state dict.
    learned: the entries that are parameters, not buffers, each parameter once.
    values: layout of every tensor that the program computes, by the name of its node.
    observed: nodes whose values are contracted with weights over moving units: what the next layer sees of them.
    """

    program: fx.GraphModule
    groups: tuple[Group, ...]
    tensors: Mapping[str, Layout]
    learned: tuple[str, ...]
    values: Mapping[str, Layout]
    observed: tuple[str, ...]

    def inner(self, group: Group) -> tuple[Group, ...]:
        """The groups that are permuted apart within each unit of ``group``."""
        return tuple(other for other in self.groups if other.outer == group.name)

    def table_shape(self, group: Group) -> tuple[int, ...]:
        if group.outer is None:
            return (group.size,)
        return (next(other.size for other in self.groups if other.name == group.outer), group.size)

    def identity(self) -> dict[str, Tensor]:
        """The permutations that move nothing."""
        return {group.name: torch.arange(group.size).expand(self.table_shape(group)).clone() for group in self.groups}

    def random(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Uniformly random permutations, independent per group."""
        return {
            group.name: torch.rand(self.table_shape(group), generator=generator).argsort(dim=-1)
            for group in self.groups
        }

    def network(self, state: State) -> fx.GraphModule:
        """A program of its own with these weights, in evaluation mode."""
        program = deepcopy(self.program)
        held = program.state_dict()
        program.load_state_dict({name: tensor for name, tensor in state.items() if name in held}, strict=False)
        return program

    def permuted(self, state: State, permutations: Permutations) -> dict[str, Tensor]:
        """The state of a network that computes the same with its units in another order. New tensors where they move.

        Raises:
            ValueError: names or shapes that are not those of the model.
        """
        if state.keys() != self.tensors.keys():
            odd = sorted(state.keys() ^ self.tensors.keys())[0]
            raise ValueError(f"{odd!r} is not in both the state and the model")
        return {name: reorder(tensor, self.tensors[name], permutations) for name, tensor in state.items()}


def reorder(tensor: Tensor, layout: Layout, permutations: Permutations) -> Tensor:
    """``tensor`` with the units of every axis in the order of ``permutations``; itself where nothing moves.

    Raises:
        ValueError: the tensor has not the shape of the layout.
    """
    if tensor.shape != tuple(prod(factor.size for factor in axis) for axis in layout):
        raise ValueError(f"a tensor of shape {tuple(tensor.shape)} has not the layout {layout}")
    factors = factors_of(layout)
    waiting = [place for place, factor in enumerate(factors) if factor.group in permutations]
    if not waiting:
        return tensor
    result, places = tensor.reshape([factor.size for factor in factors]), {f.group: i for i, f in enumerate(factors)}
    while waiting:
        unsettled = {factors[place].group for place in waiting}
        ready = [place for place in waiting if factors[place].outer not in unsettled]
        for place in ready:
            table, outer = permutations[factors[place].group or ""], factors[place].outer
            if outer is None:
                result = result.index_select(place, table)
            else:
                result = _within(result, places[outer], place, table)
        waiting = [place for place in waiting if place not in ready]
    return result.reshape(tensor.shape)


def factors_of(layout: Layout) -> list[Factor]:
    """The dimensions of a tensor once every axis is taken apart into its factors."""
    return [factor for axis in layout for factor in axis]


def _within(tensor: Tensor, outer: int, inner: int, table: Tensor) -> Tensor:
    """Units of dimension ``inner`` reordered by the row of ``table`` that belongs to their place in ``outer``."""
    shape = [1] * tensor.ndim
    shape[outer], shape[inner] = table.shape
    index = (table if outer < inner else table.mT).reshape(shape)
    return tensor.gather(inner, index.expand(tensor.shape))
