"""How permutations pass through functions, operators and methods of tensors, by their names.

A rule gets the structure, positional and named operands, and the shape of the result, and gives the axes of the result.
What is not named here is allowed only where nothing that goes in can move.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mergenode.mixers.axes import Axes, Axis
from mergenode.mixers.indexing import getitem, pieces, select
from mergenode.mixers.labels import Labelled, Labels, Operand, Structure, Unsupported, tensors_in

Shape = tuple[int, ...]
Rule = Callable[[Structure, Sequence[Operand], Mapping[str, Operand], Shape], Labels]


def _first(operands: Sequence[Operand], named: Mapping[str, Operand]) -> Labelled:
    return next(tensors_in((tuple(operands), dict(named))))


def _same(structure: Structure, operands: Sequence[Operand], named: Mapping[str, Operand], shape: Shape) -> Labels:
    return _first(operands, named).axes


def _broadcast(structure: Structure, operands: Sequence[Operand], named: Mapping[str, Operand], shape: Shape) -> Labels:
    """Elementwise in one or more tensors, aligned from the right."""
    return broadcast(structure, list(tensors_in((tuple(operands), dict(named)))), shape)


def broadcast(structure: Structure, tensors: Sequence[Labelled], shape: Shape) -> Axes:
    """The axes of an elementwise result of ``shape``; what meets in it goes together."""
    result: list[Axis] = []
    for from_right in range(len(shape), 0, -1):
        size = shape[len(shape) - from_right]
        meeting = [t.axes[-from_right] for t in tensors if len(t.shape) >= from_right and t.shape[-from_right] == size]
        for axis in meeting[1:]:
            structure.atoms.unify(meeting[0], axis)
        result.append(meeting[0] if meeting and size > 1 else structure.atoms.fixed(size))
    return tuple(result)


def _matmul(structure: Structure, operands: Sequence[Operand], named: Mapping[str, Operand], shape: Shape) -> Labels:
    """``[..., m, k] @ [..., k, n]``."""
    left, right = list(tensors_in((tuple(operands), dict(named))))
    if len(left.shape) < 2 or len(right.shape) < 2:
        raise Unsupported("a product with a vector")
    structure.atoms.unify(structure.contract(left, -1), structure.contract(right, -2))
    batch = broadcast(structure, [_leading(left, 2), _leading(right, 2)], shape[:-2])
    return (*batch, left.axes[-2], right.axes[-1])


def _linear(structure: Structure, operands: Sequence[Operand], named: Mapping[str, Operand], shape: Shape) -> Labels:
    """``x [..., in]``, ``weight [out, in]``, ``bias [out]``."""
    given = {**dict(zip(("input", "weight", "bias"), operands, strict=False)), **named}
    value, weight, bias = given["input"], given["weight"], given.get("bias")
    assert isinstance(value, Labelled) and isinstance(weight, Labelled)
    structure.atoms.unify(weight.axes[1], structure.contract(value, -1))
    if isinstance(bias, Labelled):
        structure.atoms.unify(bias.axes[0], weight.axes[0])
    return (*value.axes[:-1], weight.axes[0])


def _attention(structure: Structure, operands: Sequence[Operand], named: Mapping[str, Operand], shape: Shape) -> Labels:
    """Scaled dot product attention: queries ``[..., l, e]``, keys ``[..., s, e]``, values ``[..., s, v]``."""
    query, key, value, *others = list(tensors_in((tuple(operands), dict(named))))
    if named.get("enable_gqa"):
        raise Unsupported("attention that repeats its keys by itself (enable_gqa)")
    atoms = structure.atoms
    for axis in (query.axes[-2], key.axes[-2], value.axes[-2]):
        atoms.pin(axis)
    atoms.unify(structure.contract(query, -1), structure.contract(key, -1))
    batch = broadcast(structure, [_leading(each, 2) for each in (query, key, value)], shape[:-2])
    for mask in others:
        scores = Labelled((*batch, query.axes[-2], key.axes[-2]), (*shape[:-1], key.shape[-2]), mask.node)
        broadcast(structure, [scores, mask], scores.shape)
    return (*batch, query.axes[-2], value.axes[-1])


def _leading(operand: Labelled, without: int) -> Labelled:
    return Labelled(operand.axes[:-without], operand.shape[:-without], operand.node)


def _normalise_last(
    structure: Structure, operands: Sequence[Operand], named: Mapping[str, Operand], shape: Shape
) -> Labels:
    """``layer_norm`` and ``rms_norm``: scale and shift, where given, have the shape of the last dimensions."""
    value, *affine = list(tensors_in((tuple(operands), dict(named))))
    for tensor in affine:
        for own, other in zip(tensor.axes, value.axes[-len(tensor.axes) :], strict=True):
            structure.atoms.unify(own, other)
    return value.axes


def _reduce(structure: Structure, operands: Sequence[Operand], named: Mapping[str, Operand], shape: Shape) -> Labels:
    """A sum, mean or extremum over whole dimensions does not depend on the order of units in them."""
    value = _first(operands, named)
    dims = named.get("dim", operands[1] if len(operands) > 1 else None)
    listed = [dims] if isinstance(dims, int) else list(dims) if isinstance(dims, list | tuple) else None
    gone = {dim % len(value.axes) for dim in listed} if listed is not None else set(range(len(value.axes)))
    keepdim = len(shape) == len(value.axes)
    return tuple(() if dim in gone else axis for dim, axis in enumerate(value.axes) if keepdim or dim not in gone)


def _reshape(structure: Structure, operands: Sequence[Operand], named: Mapping[str, Operand], shape: Shape) -> Labels:
    return structure.atoms.regroup(_first(operands, named).axes, shape)


def _permute(structure: Structure, operands: Sequence[Operand], named: Mapping[str, Operand], shape: Shape) -> Labels:
    value, *rest = (*operands, *named.values())
    assert isinstance(value, Labelled)
    order = rest[0] if len(rest) == 1 else rest
    assert isinstance(order, list | tuple)
    return tuple(value.axes[dim] for dim in order)


def _transpose(structure: Structure, operands: Sequence[Operand], named: Mapping[str, Operand], shape: Shape) -> Labels:
    value, a, b = (*operands, *named.values()) if len(operands) + len(named) == 3 else (operands[0], 0, 1)
    assert isinstance(value, Labelled) and isinstance(a, int) and isinstance(b, int)
    axes = list(value.axes)
    axes[a], axes[b] = axes[b], axes[a]
    return tuple(axes)


def _expand(structure: Structure, operands: Sequence[Operand], named: Mapping[str, Operand], shape: Shape) -> Labels:
    value = _first(operands, named)
    return broadcast(structure, [value], shape)


def _concatenate(
    structure: Structure, operands: Sequence[Operand], named: Mapping[str, Operand], shape: Shape
) -> Labels:
    """Along places; the other dimensions go together."""
    tensors = list(tensors_in((tuple(operands), dict(named))))
    given = named.get("dim", operands[1] if len(operands) > 1 else 0)
    assert isinstance(given, int)
    dim = given % len(shape)
    for tensor in tensors:
        if tensor.is_parameter:
            structure.atoms.pin(tensor.axes[dim])
    structure.require_fixed((t.axes[dim] for t in tensors), "tensors put side by side along units that are permuted")
    for tensor in tensors[1:]:
        for place in set(range(len(shape))) - {dim}:
            structure.atoms.unify(tensors[0].axes[place], tensor.axes[place])
    return tuple(structure.atoms.fixed(shape[dim]) if k == dim else axis for k, axis in enumerate(tensors[0].axes))


def _over_places(places: int) -> Rule:
    """Pooling and padding of the last dimensions."""

    def rule(structure: Structure, operands: Sequence[Operand], named: Mapping[str, Operand], shape: Shape) -> Labels:
        value = _first(operands, named)
        first = len(shape) - places
        structure.require_fixed(value.axes[first:], "pooling along units that are permuted")
        return (*value.axes[:first], *structure.fixed(shape[first:]))

    return rule


_UNARY = (
    "abs", "alpha_dropout", "celu", "ceil", "clone", "contiguous", "cos", "detach", "double", "dropout",
    "dropout1d", "dropout2d", "elu", "erf", "exp", "expm1", "feature_alpha_dropout", "float", "floor", "gelu",
    "half", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "leaky_relu_", "log", "log1p", "log_softmax",
    "logsigmoid", "mish", "neg", "normalize", "reciprocal", "relu", "relu6", "relu_", "round", "rsqrt", "selu",
    "sigmoid", "sigmoid_", "sign", "silu", "sin", "softmax", "softmin", "softplus", "softsign", "sqrt", "square",
    "tanh", "tanh_", "to", "type_as",
)  # fmt: skip
_BINARY = (
    "add", "add_", "addcdiv", "addcmul", "clamp", "clip", "div", "div_", "eq", "floordiv", "ge", "gt", "iadd",
    "imul", "isub", "itruediv", "le", "lerp", "lt", "masked_fill", "masked_fill_", "maximum", "minimum", "mul",
    "mul_", "ne", "pow", "rsub", "sub", "sub_", "truediv", "where",
)  # fmt: skip

FUNCTION_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_UNARY, _same),
    **dict.fromkeys(_BINARY, _broadcast),
    **dict.fromkeys(("matmul", "bmm", "mm"), _matmul),
    "linear": _linear,
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(("layer_norm", "rms_norm"), _normalise_last),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "var", "std", "logsumexp"), _reduce),
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as"), _reshape),
    "permute": _permute,
    **dict.fromkeys(("transpose", "swapaxes", "t"), _transpose),
    **dict.fromkeys(("expand", "expand_as"), _expand),
    **dict.fromkeys(("cat", "concat"), _concatenate),
    "getitem": getitem,
    **dict.fromkeys(("chunk", "split", "unbind"), pieces),
    "select": select,
    **dict.fromkeys(("max_pool1d", "avg_pool1d", "adaptive_avg_pool1d"), _over_places(1)),
    **dict.fromkeys(("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"), _over_places(2)),
}
"""By the name of the function or method."""
