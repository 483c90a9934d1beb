"""Layer groups: the bounded vocabulary in which drift is told to people and to metrics."""

from __future__ import annotations


def layer_group(tensor: str) -> str:
    """The layer group of a tensor: its name up to the first number, or without the last component.

    One group per repeated block, so the number of groups is bounded by the depth of the model.

    Example:
        >>> layer_group("model.layers.12.mlp.up_proj.weight")
        'model.layers.12'
        >>> layer_group("model.embed_tokens.weight")
        'model.embed_tokens'
        >>> layer_group("logit_scale")
        'logit_scale'
    """
    parts = tensor.split(".")
    for position, part in enumerate(parts[:-1]):
        if part.isdigit():
            return ".".join(parts[: position + 1])
    return ".".join(parts[:-1]) or tensor
