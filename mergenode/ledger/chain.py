"""Two hash chains. ``link`` chains the facts of one ledger, ``lineage`` the contents of a merge across
ledgers.

A changed, removed, inserted or reordered fact breaks ``link`` from there on. What a chain alone cannot show
is that facts are missing at its end: the store counts them, and every published manifest names the lineage it
was made from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

from mergenode.ledger.canonical import canonical
from mergenode.types import Digest

GENESIS = "0" * 64
"""What the first fact names as its predecessor."""

_FACTS = b"mergenode-ledger"
_LINEAGE = b"mergenode-merge"


@dataclass(frozen=True, slots=True)
class Entry:
    """A fact as it is stored: its body, the hash of the fact before it, and its own."""

    sequence: int
    body: str
    previous: str
    hash: str


def link(previous: str, sequence: int, body: str) -> str:
    """The hash of a fact: BLAKE2b-256 over its predecessor's hash, its sequence number and its body; 64 hex
    digits.

    ``body`` may hold any text, also one that was tampered with: lone surrogates are hashed, not refused.
    """
    text = f"{previous}\n{sequence}\n{body}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32, person=_FACTS).hexdigest()


def lineage(
    previous: Digest | None,
    *,
    base: Digest,
    method: str,
    options: Mapping[str, Any],
    content: Digest,
    weight: float,
    profile: Mapping[str, float] = MappingProxyType({}),
) -> Digest:
    """Identity of a running merge after one more fold: ``blake2b:`` and 64 hexadecimal digits.

    Determined by base, method, options, and the contents, weights and profiles in their order; free of names, times and
    places, so it is equal on every node that folded the same. ``previous`` is the lineage before, None for
    the first fold. ``options`` are the settings after defaults and validation: ``1`` and ``1.0`` are
    different options.

    Raises:
        ValueError: an option is not a JSON value, or a number is not finite.
    """
    step: dict[str, Any] = {
        "previous": previous,
        "base": base,
        "method": method,
        "options": options,
        "content": content,
        "weight": float(weight),
    }
    if profile:
        step["profile"] = dict(profile)
    return Digest("blake2b:" + blake2b(canonical(step).encode("ascii"), digest_size=32, person=_LINEAGE).hexdigest())


def lineage_without(previous: Digest | None, contents: Iterable[Digest]) -> Digest:
    """Identity of a merge from which these contents were subtracted: equal wherever the same was done, in any order.

    Not that of a merge which never held them: subtraction leaves rounding behind.
    """
    step = {"previous": previous, "retracted": sorted(contents)}
    return Digest("blake2b:" + blake2b(canonical(step).encode("ascii"), digest_size=32, person=_LINEAGE).hexdigest())


def lineage_combined(lineages: Iterable[Digest | None]) -> Digest:
    """Identity of the sum of merges, whatever their order."""
    step = {"combined": sorted(lineage or "" for lineage in lineages)}
    return Digest("blake2b:" + blake2b(canonical(step).encode("ascii"), digest_size=32, person=_LINEAGE).hexdigest())


def lineage_united(parts: Iterable[tuple[str, Digest | None, Digest | None]]) -> Digest:
    """Identity of a union: equal wherever the same parts were added up. ``parts``: node, lineage, statistics."""
    step = {"united": sorted([node, lineage or "", statistics or ""] for node, lineage, statistics in parts)}
    return Digest("blake2b:" + blake2b(canonical(step).encode("ascii"), digest_size=32, person=_LINEAGE).hexdigest())


def model_digest(tensors: Mapping[str, Digest]) -> Digest:
    """Identity of published weights: equal exactly where every tensor's bytes are."""
    text = canonical({"model": dict(tensors)}).encode("ascii")
    return Digest("blake2b:" + blake2b(text, digest_size=32, person=_LINEAGE).hexdigest())
