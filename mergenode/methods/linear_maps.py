"""Which weights are linear maps: the one place where names decide how a tensor is merged.

A checkpoint does not say which of its 2-D tensors multiplies activations and which is looked up by index.
The rule:

1. only 2-D tensors with both sides of at least 2 are linear maps;
2. a name that matches a pattern of ``include`` is one, whatever the rest says;
3. a name that matches a pattern of ``exclude`` is not;
4. otherwise the name has to end in ``.weight`` or ``in_proj_weight``, or be ``weight``.

So biases, norms, convolution kernels and bare parameters on a container module are never linear maps, while
fused attention inputs (``in_proj_weight``) and output heads are. Patterns are shell-style, case-sensitive,
and match the whole name.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from mergenode.errors import UsageError
from mergenode.types import TensorSpec

DEFAULT_EXCLUDE: tuple[str, ...] = (
    "*embed*",  # embed_tokens, embeddings.word_embeddings, embed_positions, patch_embed, token_embedding
    "*wte.*",  # GPT-2 family: word table
    "*wpe.*",  # GPT-2 family: position table
    "shared.weight",  # T5, BART: table shared by encoder and decoder
    "*.shared.weight",
    "*position*",  # position tables, relative_position_bias_table
    "*token_type*",  # BERT: segment table
    "*relative_attention_bias*",  # T5: bucketed position bias
    "*codebook*",  # vector-quantised tables
    "*lookup_table*",
)
"""Embedding and position tables under the names that Hugging Face models give them. Sparse rows, no linear
map."""


def is_linear_map(spec: TensorSpec, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether the tensor is the weight of a linear map by the rule of this module.

    Example:
        >>> from mergenode.types import DType
        >>> is_linear_map(TensorSpec("layers.0.mlp.up_proj.weight", DType.BF16, (8, 4)), (), DEFAULT_EXCLUDE)
        True
        >>> is_linear_map(TensorSpec("model.embed_tokens.weight", DType.BF16, (8, 4)), (), DEFAULT_EXCLUDE)
        False
    """
    if not spec.dtype.is_float or len(spec.shape) != 2 or min(spec.shape) < 2:
        return False
    if any(fnmatchcase(spec.name, pattern) for pattern in include):
        return True
    if any(fnmatchcase(spec.name, pattern) for pattern in exclude):
        return False
    return spec.name == "weight" or spec.name.endswith((".weight", "in_proj_weight"))


def checked_patterns(method: str, option: str, patterns: Sequence[str]) -> tuple[str, ...]:
    """The patterns as they are recorded. Raises UsageError unless they are a list of non-empty strings."""
    if isinstance(patterns, str) or not isinstance(patterns, Sequence):
        raise UsageError(f"{method}: option {option!r} is {patterns!r}", hint="Give a list of name patterns.")
    for pattern in patterns:
        if not isinstance(pattern, str) or not pattern:
            raise UsageError(
                f"{method}: option {option!r} holds {pattern!r}",
                hint="Patterns are non-empty strings like '*embed*'.",
            )
    return tuple(patterns)
