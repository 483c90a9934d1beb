"""How much an unknown checkpoint may ask for before it is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps that are checked before the memory or time they stand for is spent. Sizes in bytes.

    The defaults admit every published model known today with an order of magnitude to spare.
    """

    header_bytes: int = 100 << 20
    """JSON header of one safetensors file; the format's reference reader has the same cap."""
    metadata_bytes: int = 16 << 20
    """Text inside ``__metadata__`` of one file; some trainers store their whole configuration there."""
    metadata_entries: int = 16_384
    """Keys in ``__metadata__`` of one file."""
    tensors: int = 200_000
    """Tensors of one checkpoint, all files together."""
    dimensions: int = 32
    """Dimensions of one tensor."""
    name_characters: int = 512
    """Length of one tensor name."""
    index_bytes: int = 64 << 20
    """The ``*.safetensors.index.json`` file."""
    files: int = 1024
    """Weight files of one checkpoint; each keeps a descriptor open while it is read."""
    directory_entries: int = 100_000
    """Names in a checkpoint directory."""
    config_bytes: int = 1 << 20
    """``config.json`` and ``adapter_config.json``."""
    checkpoint_bytes: int = 16 << 40
    """Weight files of one checkpoint, all together."""
    patterns: int = 4096
    """Entries of ``rank_pattern`` and of ``alpha_pattern`` of one adapter."""
    free_patterns: int = 64
    """Those of them that are more than a literal name."""
    adapter_rank: int = 8192
    """Rank of one low-rank factor pair."""
