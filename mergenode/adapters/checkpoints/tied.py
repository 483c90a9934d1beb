"""Tied weights: one parameter of the model that files carry under two names. It is folded once, under one of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from mergenode.types import Digest, TensorSpec

MIN_TIED_ELEMENTS = 1024
"""Below this, equal tensors are more likely equal by chance or by initialisation."""

_EMBEDDING_WORDS = ("embed", "wte", "shared", "tok_embeddings")
_IMPLIED = (
    "lm_head.weight",
    "output.weight",
    "embed_out.weight",
    "proj_out.weight",
    "lm_head.decoder.weight",
    "cls.predictions.decoder.weight",
    "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "embeddings.word_embeddings.weight",
)
"""Names that transformers models give to a second use of the input embedding; a base that ties may not store them."""


def tied_names(
    specs: Mapping[str, TensorSpec], digests: Mapping[str, Digest], constant: frozenset[str]
) -> dict[str, str]:
    """Alias -> primary, for names of the base whose tensors are one parameter under several names.

    Tied are float matrices of equal shape, element type and bytes, with at least ``MIN_TIED_ELEMENTS`` elements and
    not constant. Repeated blocks that start out equal (a copied layer, an expert, a second tower) are not tied: names
    with a number in them count only when a single one of them meets a name without.
    The primary is an embedding where there is one, else the first by name, whatever the order of the files.
    """
    groups: defaultdict[tuple[Digest, TensorSpec], list[str]] = defaultdict(list)
    for name, spec in specs.items():
        if len(spec.shape) == 2 and spec.dtype.is_float and spec.numel >= MIN_TIED_ELEMENTS and name not in constant:
            groups[digests[name], TensorSpec("", spec.dtype, spec.shape)].append(name)
    aliases: dict[str, str] = {}
    for names in groups.values():
        plain = [name for name in names if not _numbered(name)]
        numbered = [name for name in names if _numbered(name)]
        tied = sorted(plain + numbered if len(numbered) == 1 else plain, key=_preference)
        aliases.update({alias: tied[0] for alias in tied[1:]})
    return aliases


def implied_primaries(name: str, spec: TensorSpec, candidates: Mapping[str, TensorSpec]) -> list[str]:
    """Tensors that ``name``, which the base does not store, may be a second name of; best first, maybe none."""
    if not any(name == known or name.endswith(f".{known}") for known in _IMPLIED):
        return []
    same_shape = [
        other
        for other, found in candidates.items()
        if other != name and found.shape == spec.shape and len(spec.shape) == 2
    ]
    embeddings = [other for other in same_shape if _is_embedding(other)]
    return sorted(embeddings or same_shape, key=_preference)


def _is_embedding(name: str) -> bool:
    return any(word in name for word in _EMBEDDING_WORDS)


def _preference(name: str) -> tuple[bool, str]:
    return (not _is_embedding(name), name)


def _numbered(name: str) -> bool:
    return any(part.isdigit() for part in name.split("."))
