"""What a rule sees of one operation: operands with labelled axes, and the structure that it adds to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, fx

from mergenode.mixers.axes import Atoms, Axes, Axis


class Unsupported(Exception):
    """An operation whose effect on permuted units is not known."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A tensor of the forward pass: its axes, and the node that computed it."""

    axes: Axes
    shape: tuple[int, ...]
    node: fx.Node

    @property
    def is_parameter(self) -> bool:
        return self.node.op == "get_attr"


Operand = object
"""Labelled, or a constant, or a list, tuple, slice or mapping of operands."""

Labels = object
"""What a rule returns: the axes of a tensor, or a list of them for an operation that returns several."""


@dataclass(slots=True)
class Structure:
    """What is known of the model so far.

    names: the names in the state dict of each tensor, by ``id``; tensors: their axes, by ``id``; consumed: the nodes
    whose values are contracted over an axis.
    """

    atoms: Atoms
    names: Mapping[int, Sequence[str]]
    tensors: dict[int, Axes] = field(default_factory=dict)
    consumed: dict[str, None] = field(default_factory=dict)

    def axes_of(self, tensor: Tensor) -> Axes:
        """The axes of a parameter or buffer; pinned when the state dict does not hold it. Made when first asked for."""
        if id(tensor) not in self.tensors:
            names = self.names.get(id(tensor), ())
            self.tensors[id(tensor)] = tuple(
                self.atoms.fresh(size, f"{names[0]}[{dim}]") if names else self.atoms.fixed(size)
                for dim, size in enumerate(tensor.shape)
            )
        return self.tensors[id(tensor)]

    def unify_with(self, tensor: Tensor | None, *axes: Axis) -> None:
        """A parameter has these axes. Nothing where the module has no such parameter."""
        if tensor is not None:
            for own, other in zip(self.axes_of(tensor), axes, strict=True):
                self.atoms.unify(own, other)

    def contract(self, operand: Labelled, dim: int) -> Axis:
        """The axis over which ``operand`` is about to be summed with weights."""
        if not operand.is_parameter:
            self.consumed[operand.node.name] = None
        return operand.axes[dim]

    def require_fixed(self, axes: Iterable[Axis], what: str) -> None:
        """Raises Unsupported when units of one of the axes may move."""
        if not all(self.atoms.is_pinned(axis) for axis in axes):
            raise Unsupported(what)

    def fixed(self, shape: Sequence[int]) -> Axes:
        return tuple(self.atoms.fixed(size) for size in shape)


def tensors_in(operand: Operand) -> Iterator[Labelled]:
    """Every labelled tensor in an operand, in order."""
    if isinstance(operand, Labelled):
        yield operand
    elif isinstance(operand, slice):
        yield from tensors_in((operand.start, operand.stop, operand.step))
    elif isinstance(operand, Mapping):
        yield from tensors_in(tuple(operand.values()))
    elif isinstance(operand, list | tuple):
        for part in operand:
            yield from tensors_in(part)
