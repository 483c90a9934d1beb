"""The vocabulary in types: values only, no behaviour beyond arithmetic, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import prod
from typing import Any, NewType

Digest = NewType("Digest", str)
"""A content digest, ``blake3:`` and 64 hexadecimal digits."""


class DType(StrEnum):
    """Element types by their safetensors names."""

    F64 = "F64"
    F32 = "F32"
    F16 = "F16"
    BF16 = "BF16"
    I64 = "I64"
    I32 = "I32"
    I16 = "I16"
    I8 = "I8"
    U8 = "U8"
    BOOL = "BOOL"

    @property
    def size(self) -> int:
        """Bytes per element."""
        return _SIZES[self]

    @property
    def is_float(self) -> bool:
        """True for the types that are merged; the others are kept from the base."""
        return self in (DType.F64, DType.F32, DType.F16, DType.BF16)


LARGEST_FACTOR = 1e6
"""Largest size of a factor that people give for a model or for some of its tensors. No update is published a thousand
times as large as its own method makes it; what is far above that is a slip of the pen, and overflows float32."""

_SIZES = {
    DType.F64: 8, DType.I64: 8, DType.F32: 4, DType.I32: 4, DType.F16: 2, DType.BF16: 2,
    DType.I16: 2, DType.I8: 1, DType.U8: 1, DType.BOOL: 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor as a header declares it."""

    name: str
    dtype: DType
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.size


class Kind(StrEnum):
    """What a contribution's files hold."""

    FULL = "full"
    ADAPTER = "adapter"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint that a registry lists: where it is and which revision of it, nothing read yet.

    ``revision`` changes whenever the files change (a digest of the listing, or the marker's content digest);
    identity is the content digest, known once the bytes were read (or promised by ``content``). ``forced``: the
    operator asked for it now, so an earlier rejection of the same revision does not stand in the way. ``base``: what
    the pusher says it was tuned from; None when nobody said. ``profile``: factors of ``weight`` by tensor name pattern.
    """

    registry: str
    name: str
    revision: str
    location: str
    size_bytes: int = 0
    weight: float = 1.0
    content: Digest | None = None
    attested: bool = False
    forced: bool = False
    base: Digest | None = None
    profile: tuple[tuple[str, float], ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.registry, self.name, self.revision)


@dataclass(frozen=True, slots=True)
class Unsettled:
    """An entry that is not complete yet: still being written, or waiting for its shards."""

    registry: str
    name: str
    why: str
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry whose listing alone shows that it can never be accepted as it is (unsafe path, bad marker)."""

    registry: str
    name: str
    revision: str
    reason: str
    message: str
    hint: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.registry, self.name, self.revision)


@dataclass(frozen=True, slots=True)
class Listing:
    """What one registry holds right now. An unreachable registry raises instead: empty never means gone."""

    candidates: tuple[Candidate, ...] = ()
    unsettled: tuple[Unsettled, ...] = ()
    refused: tuple[Refused, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupReport:
    """What one fold did to one layer group (or, named ``*``, to the whole model).

    Norms are Frobenius, in weight units; cosine, share_kept, capacity_taken and sign_conflict are dimensionless
    in [0, 1] (cosine in [-1, 1]); ``sign_conflict``: of the sum of |delta| over the entries that the merge before
    moved, the share whose sign opposes it, from one entry of 127. ``None``: not defined for this method or this group.
    """

    group: str
    parameters: int
    delta_norm: float
    kept_norm: float
    merge_norm: float | None
    base_norm: float
    cosine: float | None = None
    share_kept: float | None = None
    effective_rank: float | None = None
    capacity_taken: float | None = None
    sign_conflict: float | None = None


@dataclass(frozen=True, slots=True)
class FoldResult:
    """What a finished (durable, not yet committed) fold found out about the contribution."""

    content: Digest
    kind: Kind
    statistics: Digest
    totals: Mapping[str, float]
    norm: float
    relative_norm: float
    groups: tuple[GroupReport, ...]
    bytes_read: int = 0
    bytes_written: int = 0
    warnings: tuple[str, ...] = field(default=())
    promised: Digest | None = None
    """Content of the weights alone, which is what commit markers promise; None: equal to ``content``."""
    protection: Mapping[str, Any] = field(default_factory=dict)
    """What protected capabilities held back: ``share`` of the squared norm, ``groups``, ``by``. Empty: none are."""


@dataclass(frozen=True, slots=True)
class Head:
    """The committed running merge, as the ledger knows it.

    ``restated``: its last change was no fold (a retraction, a rollback, a combination).
    """

    generation: int = 0
    count: int = 0
    totals: Mapping[str, float] = field(default_factory=dict)
    statistics: Digest | None = None
    lineage: Digest | None = None
    published_generation: int = 0
    version: int = 0
    restated: bool = False
