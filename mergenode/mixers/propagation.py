"""One pass over the program of a model with example inputs, which gives every tensor its axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from torch import Tensor, fx, nn

from mergenode.mixers.axes import Axes, Unmatched
from mergenode.mixers.function_rules import FUNCTION_RULES
from mergenode.mixers.labels import Labelled, Structure, Unsupported, tensors_in
from mergenode.mixers.module_rules import MODULE_RULES
from mergenode.mixers.tracing import refusal


class Propagation(fx.Interpreter):
    """Runs the program and, operation by operation, finds out what goes together.

    ``structure``: what was found. ``axes``: of what every node computes; a list where that is several tensors, None
    where it is none.
    """

    def __init__(self, program: fx.GraphModule, model: nn.Module, structure: Structure) -> None:
        super().__init__(program)
        self._model = model
        self.extra_traceback = False
        self.structure = structure
        self.axes: dict[fx.Node, Axes | list[Axes] | None] = {}
        self._shapes: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Raises UsageError, naming the module, where no rule says how permuted units come out of the operation."""
        result = super().run_node(n)
        self._shapes[n] = shapes_of(result)
        try:
            self.axes[n] = self._axes_of(n, result)
            self._check_sizes(self.axes[n], result)
        except (Unsupported, Unmatched) as problem:
            path = module_path(n)
            module = self._model.get_submodule(path)
            raise refusal(path, module, f"cannot be matched: {problem} (operation {n.name!r})") from None
        return result

    def _axes_of(self, n: fx.Node, result: object) -> Axes | list[Axes] | None:
        if n.op == "output":
            for operand in tensors_in(self._labelled(n.args)):
                for axis in operand.axes:
                    self.structure.atoms.pin(axis)
            return None
        if not (isinstance(result, Tensor) or is_several(result)):
            return None
        if n.op == "placeholder":
            return self._fixed(result)
        if n.op == "get_attr":
            assert isinstance(result, Tensor)
            axes = self.structure.axes_of(result)
            if not isinstance(result, nn.Parameter):
                for axis in axes:
                    self.structure.atoms.pin(axis)
            return axes
        return self._computed(n, result)

    def _computed(self, n: fx.Node, result: object) -> Axes | list[Axes] | None:
        args, kwargs = self._labelled(n.args), self._labelled(n.kwargs)
        operands = list(tensors_in((args, kwargs)))
        if n.op == "call_module":
            module = self.module.get_submodule(str(n.target))
            rule = MODULE_RULES.get(type(module))
            if rule is None or len(operands) != 1 or not isinstance(result, Tensor):
                raise Unsupported(f"{type(module).__name__} has no rule for this use")
            return rule(self.structure, module, operands[0], tuple(result.shape))
        name = n.target if isinstance(n.target, str) else getattr(n.target, "__name__", str(n.target))
        if name == "getitem" and isinstance(n.args[0], fx.Node) and isinstance(self.axes[n.args[0]], list):
            several = self.axes[n.args[0]]
            assert isinstance(several, list) and isinstance(n.args[1], int)
            return several[n.args[1]]
        if name in FUNCTION_RULES and operands:
            found = FUNCTION_RULES[name](self.structure, args, kwargs, _shape_for_rule(result))
            assert isinstance(found, tuple | list)
            return found
        moving = [operand for operand in operands for axis in operand.axes if not self.structure.atoms.is_pinned(axis)]
        if moving:
            raise Unsupported(f"{name!r} has no rule")
        return self._fixed(result)

    def _check_sizes(self, axes: Axes | list[Axes] | None, result: object) -> None:
        """A rule that misread its operands gives axes that do not fit the result."""
        shapes = shapes_of(result)
        pairs = [(axes, shapes)] if isinstance(axes, tuple) else zip(axes or (), shapes or (), strict=False)
        for each, shape in pairs:
            if tuple(prod(map(self.structure.atoms.size, axis)) for axis in each) != shape:
                raise Unsupported("an unusual form of this operation has no rule")

    def _fixed(self, result: object) -> Axes | list[Axes]:
        if isinstance(result, Tensor):
            return self.structure.fixed(result.shape)
        assert isinstance(result, list | tuple)
        return [self.structure.fixed(part.shape) for part in result]

    def _labelled(self, argument: Any) -> Any:
        """Arguments of a node with every tensor as Labelled, other nodes as what they computed."""
        if isinstance(argument, fx.Node):
            axes = self.axes[argument]
            if isinstance(axes, list):
                return [Labelled(a, s, argument) for a, s in zip(axes, self._shapes[argument], strict=True)]
            return self.env.get(argument) if axes is None else Labelled(axes, self._shapes[argument], argument)
        if isinstance(argument, slice):
            return slice(*(self._labelled(part) for part in (argument.start, argument.stop, argument.step)))
        if isinstance(argument, Mapping):
            return {key: self._labelled(part) for key, part in argument.items()}
        if isinstance(argument, Sequence) and not isinstance(argument, str):
            parts = [self._labelled(part) for part in argument]
            return parts if isinstance(argument, list) else tuple(parts)
        return argument


def is_several(result: object) -> bool:
    """True for a list or tuple of tensors."""
    return isinstance(result, list | tuple) and bool(result) and all(isinstance(part, Tensor) for part in result)


def shapes_of(result: object) -> Any:
    """The shape of a tensor, the shapes of several, None of anything else."""
    if isinstance(result, Tensor):
        return tuple(result.shape)
    return [tuple(part.shape) for part in result] if isinstance(result, list | tuple) and is_several(result) else None


def module_path(n: fx.Node) -> str:
    """The innermost module whose code the operation is in; empty for the model itself."""
    stack = n.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values()]
    return str(n.target) if n.op == "call_module" else paths[-1] if paths else ""


def _shape_for_rule(result: object) -> tuple[int, ...]:
    """The shape of a tensor; of several, how many there are and the shape of the first."""
    if isinstance(result, Tensor):
        return tuple(result.shape)
    assert isinstance(result, list | tuple)
    return (len(result), *result[0].shape)
