"""How permutations pass through the modules of torch.nn that hold parameters or work on places.

A rule gets the structure, the module, its input and the shape of its output. It says which axes of the module's
parameters go with which axes of the input, and gives the axes of the output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from mergenode.mixers.axes import Axes
from mergenode.mixers.labels import Labelled, Structure, Unsupported

Shape = tuple[int, ...]
Rule = Callable[[Structure, nn.Module, Labelled, Shape], Axes]


def _same(structure: Structure, module: nn.Module, operand: Labelled, shape: Shape) -> Axes:
    return operand.axes


def _linear(structure: Structure, module: nn.Module, operand: Labelled, shape: Shape) -> Axes:
    assert isinstance(module, nn.Linear)
    out = structure.axes_of(module.weight)[0]
    structure.unify_with(module.weight, out, structure.contract(operand, -1))
    structure.unify_with(module.bias, out)
    return (*operand.axes[:-1], out)


def _embedding(structure: Structure, module: nn.Module, operand: Labelled, shape: Shape) -> Axes:
    assert isinstance(module, nn.Embedding)
    if module.max_norm is not None:
        raise Unsupported("an embedding that renormalises its weights while it is read")
    rows, units = structure.axes_of(module.weight)
    structure.atoms.pin(rows)
    return (*operand.axes, units)


def _convolution(structure: Structure, module: nn.Module, operand: Labelled, shape: Shape) -> Axes:
    """Weight ``[out, in / groups, places ...]``; an axis of channels is groups x channels of one group."""
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    places = module.weight.ndim - 2
    channels = _channel_dim(operand, places)
    structure.require_fixed(operand.axes[channels + 1 :], "a convolution along units that are permuted")
    atoms, groups = structure.atoms, module.groups
    weight = structure.axes_of(module.weight)
    for axis in weight[2:]:
        atoms.pin(axis)
    group_in, units_in = atoms.regroup((structure.contract(operand, channels),), (groups, module.in_channels // groups))
    group_out, _ = atoms.regroup((weight[0],), (groups, module.out_channels // groups))
    atoms.unify(group_in, group_out)
    atoms.unify(units_in, weight[1])
    structure.unify_with(module.bias, weight[0])
    return (*operand.axes[:channels], weight[0], *structure.fixed(shape[channels + 1 :]))


def _transposed_convolution(structure: Structure, module: nn.Module, operand: Labelled, shape: Shape) -> Axes:
    """Weight ``[in, out, places ...]``."""
    assert isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    if module.groups != 1:
        raise Unsupported("a transposed convolution in groups")
    channels = _channel_dim(operand, module.weight.ndim - 2)
    structure.require_fixed(operand.axes[channels + 1 :], "a convolution along units that are permuted")
    units_in, units_out, *places = structure.axes_of(module.weight)
    for axis in places:
        structure.atoms.pin(axis)
    structure.atoms.unify(structure.contract(operand, channels), units_in)
    structure.unify_with(module.bias, units_out)
    return (*operand.axes[:channels], units_out, *structure.fixed(shape[channels + 1 :]))


def _per_channel(structure: Structure, module: nn.Module, operand: Labelled, shape: Shape) -> Axes:
    """Batch and instance normalisation: one scale, shift, mean and variance per channel, dimension 1."""
    assert isinstance(module, nn.modules.batchnorm._NormBase)
    for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
        structure.unify_with(tensor, operand.axes[1])
    if module.num_batches_tracked is not None:
        structure.axes_of(module.num_batches_tracked)
    return operand.axes


def _layer_norm(structure: Structure, module: nn.Module, operand: Labelled, shape: Shape) -> Axes:
    assert isinstance(module, nn.LayerNorm | nn.RMSNorm)
    last = operand.axes[len(operand.axes) - len(module.normalized_shape) :]
    structure.unify_with(module.weight, *last)
    structure.unify_with(getattr(module, "bias", None), *last)
    return operand.axes


def _group_norm(structure: Structure, module: nn.Module, operand: Labelled, shape: Shape) -> Axes:
    """Channels are groups x channels of one group, so that a permutation leaves the groups together."""
    assert isinstance(module, nn.GroupNorm)
    groups, units = structure.atoms.regroup(
        (operand.axes[1],), (module.num_groups, module.num_channels // module.num_groups)
    )
    structure.unify_with(module.weight, (*groups, *units))
    structure.unify_with(module.bias, (*groups, *units))
    return operand.axes


def _prelu(structure: Structure, module: nn.Module, operand: Labelled, shape: Shape) -> Axes:
    assert isinstance(module, nn.PReLU)
    structure.unify_with(module.weight, operand.axes[1] if module.num_parameters > 1 else ())
    return operand.axes


def _pooling(places: int) -> Rule:
    def rule(structure: Structure, module: nn.Module, operand: Labelled, shape: Shape) -> Axes:
        first = len(operand.axes) - places
        structure.require_fixed(operand.axes[first:], "pooling along units that are permuted")
        return (*operand.axes[:first], *structure.fixed(shape[first:]))

    return rule


def _regrouped(structure: Structure, module: nn.Module, operand: Labelled, shape: Shape) -> Axes:
    return structure.atoms.regroup(operand.axes, shape)


def _channel_dim(operand: Labelled, places: int) -> int:
    return len(operand.axes) - places - 1


_ELEMENTWISE: tuple[type[nn.Module], ...] = (
    nn.Identity, nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.CELU,
    nn.SELU, nn.Softplus, nn.Softsign, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.LogSigmoid, nn.Tanhshrink,
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
)  # fmt: skip
_ALONG_AN_AXIS: tuple[type[nn.Module], ...] = (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d)
"""Every result depends on all units of the axis in the same way."""

_POOLING: Mapping[type[nn.Module], int] = {
    nn.MaxPool1d: 1, nn.AvgPool1d: 1, nn.AdaptiveAvgPool1d: 1, nn.AdaptiveMaxPool1d: 1,
    nn.MaxPool2d: 2, nn.AvgPool2d: 2, nn.AdaptiveAvgPool2d: 2, nn.AdaptiveMaxPool2d: 2,
    nn.MaxPool3d: 3, nn.AvgPool3d: 3, nn.AdaptiveAvgPool3d: 3, nn.AdaptiveMaxPool3d: 3,
    nn.ZeroPad2d: 2, nn.ReflectionPad2d: 2, nn.UpsamplingNearest2d: 2, nn.UpsamplingBilinear2d: 2,
}  # fmt: skip

MODULE_RULES: Mapping[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.modules.linear.NonDynamicallyQuantizableLinear: _linear,
    nn.Embedding: _embedding,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.ConvTranspose1d: _transposed_convolution,
    nn.ConvTranspose2d: _transposed_convolution,
    nn.ConvTranspose3d: _transposed_convolution,
    nn.BatchNorm1d: _per_channel,
    nn.BatchNorm2d: _per_channel,
    nn.BatchNorm3d: _per_channel,
    nn.InstanceNorm1d: _per_channel,
    nn.InstanceNorm2d: _per_channel,
    nn.InstanceNorm3d: _per_channel,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.PReLU: _prelu,
    nn.Flatten: _regrouped,
    nn.Unflatten: _regrouped,
    **dict.fromkeys((*_ELEMENTWISE, *_ALONG_AN_AXIS), _same),
    **{module: _pooling(places) for module, places in _POOLING.items()},
}
"""By exact type: a subclass may compute something else and is looked into instead."""
