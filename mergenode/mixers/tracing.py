"""The operations of a model, as a torch.fx program whose leaves have rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, fx, nn
from torch.nn import functional

from mergenode.errors import UsageError
from mergenode.mixers.module_rules import MODULE_RULES

HINT = "Mix without matching, or write this part with modules and functions that docs/mixing.md lists."


def trace(model: nn.Module) -> fx.GraphModule:
    """A program that computes what ``model`` computes and shares its parameters and submodules.

    Raises:
        UsageError: naming the module whose code depends on values, or that has hooks, which a program would not show.
    """
    tracer = _Tracer()
    for path, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks or "_parametrizations" in vars(module):
            raise refusal(path, module, "has hooks, which may change what it computes")
    try:
        graph = tracer.trace(model)
    except (fx.proxy.TraceError, TypeError, RuntimeError, AttributeError, ValueError, NotImplementedError) as error:
        module = model.get_submodule(tracer.inside[-1])
        raise refusal(tracer.inside[-1], module, f"could not be followed: {error}") from error
    return fx.GraphModule(model, graph, type(model).__name__)


def refusal(path: str, module: nn.Module, why: str) -> UsageError:
    """What people read when a model cannot be matched."""
    where = f"module {path!r}" if path else "the model"
    return UsageError(f"{where} ({type(module).__name__}) {why}", hint=HINT)


class _Tracer(fx.Tracer):
    """Goes into everything but the modules that have a rule, and those of torch.nn that have none.

    ``inside``: the modules it is in, by path; left as it is where tracing fails.
    """

    def __init__(self) -> None:
        super().__init__()
        self.inside = [""]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
        return type(m) in MODULE_RULES or (type(m).__module__.startswith("torch.nn.") and type(m) not in containers)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self.inside.append(self.path_of_module(m))
        if type(m) in _SPELLED_OUT:
            result = _SPELLED_OUT[type(m)](m, *args, **kwargs)
        else:
            result = super().call_module(m, forward, args, kwargs)
        self.inside.pop()
        return result


def _attention(
    m: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    need_weights: bool = True,
    is_causal: bool = False,
    **masks: object,
) -> tuple[Tensor, None]:
    """nn.MultiheadAttention in operations that have rules. Without masks and biases of keys, and gives no weights."""
    given = [name for name, mask in masks.items() if mask is not None and name != "average_attn_weights"]
    unusual = m.in_proj_weight is None or m.bias_k is not None or m.add_zero_attn or not m.batch_first
    if given or is_causal or unusual:
        raise ValueError(f"attention with {given or 'options other than batch_first'} has no rule")
    weights = m.in_proj_weight.chunk(3)
    biases: Any = (None,) * 3 if m.in_proj_bias is None else m.in_proj_bias.chunk(3)
    heads = [
        functional.linear(operand, weights[k], biases[k])
        .reshape(operand.size(0), operand.size(1), m.num_heads, m.head_dim)
        .transpose(1, 2)
        for k, operand in enumerate((query, key, value))
    ]
    attended = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2])
    return m.out_proj(attended.transpose(1, 2).flatten(2)), None


def _encoder_layer(m: nn.TransformerEncoderLayer, src: Tensor, **masks: object) -> Tensor:
    """nn.TransformerEncoderLayer without masks."""
    if any(mask is not None and mask is not False for mask in masks.values()):
        raise ValueError("a mask has no rule")

    def attend(states: Tensor) -> Tensor:
        attended: Tensor = m.self_attn(states, states, states, need_weights=False)[0]
        return attended

    def feed(states: Tensor) -> Tensor:
        fed: Tensor = m.linear2(m.activation(m.linear1(states)))
        return fed

    if m.norm_first:
        states = src + attend(m.norm1(src))
        return states + feed(m.norm2(states))
    states = m.norm1(src + attend(src))
    normed: Tensor = m.norm2(states + feed(states))
    return normed


def _encoder(m: nn.TransformerEncoder, src: Tensor, **masks: object) -> Tensor:
    """nn.TransformerEncoder without masks."""
    for layer in m.layers:
        src = layer(src, **masks)
    return src if m.norm is None else m.norm(src)


_SPELLED_OUT: Mapping[type[nn.Module], Callable[..., Any]] = {
    nn.MultiheadAttention: _attention,
    nn.TransformerEncoderLayer: _encoder_layer,
    nn.TransformerEncoder: _encoder,
}
"""Modules of torch.nn with code that a trace cannot follow, in evaluation mode."""
