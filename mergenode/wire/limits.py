"""How much a peer may make this node hold or spend before it is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WireLimits:
    """Caps that are checked before the memory or time they stand for is spent. Sizes in bytes."""

    manifest_bytes: int = 64 << 20
    """One manifest, as it travels."""
    model_bytes: int = 16 << 40
    """All blocks of one manifest, decoded."""
    tensors: int = 200_000
    """Tensors of one manifest."""
    dimensions: int = 32
    """Dimensions of one tensor."""
    name_characters: int = 512
    """Length of one tensor name."""
    head_bytes: int = 16 << 10
    """One signed head, as it travels: several fit into one control message."""
    parents: int = 128
    """Parents that one head names."""
    metrics: int = 32
    """Metrics that one head carries."""


DEFAULT_WIRE_LIMITS = WireLimits()
