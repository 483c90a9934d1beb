"""Manifests as they come from somebody else: bounded, strict, and the same bytes again when packed."""

from __future__ import annotations

import math

from blake3 import blake3

from mergenode.errors import RejectedError, RejectReason
from mergenode.types import TensorSpec
from mergenode.wire.blocks import ID_BYTES, Root, block_count
from mergenode.wire.limits import DEFAULT_WIRE_LIMITS, WireLimits
from mergenode.wire.manifest import DTYPE_CODES, MAGIC, Manifest, TensorEntry
from mergenode.wire.packing import Unpacking
from mergenode.wire.values import NOTHING_MEASURED, ValueFigures

_SLACK = 1 + 1e-9
_SMALLEST = math.ulp(0.0)
"""Room for the rounding of a norm."""
_SMALLEST_TENSOR = 2 + 1 + 1 + 1 + 1 + 16
"""Bytes of a tensor with a name of one letter, no dimension and no block; bounds the declared number of tensors."""


def parse_manifest(data: bytes, root: Root | None = None, limits: WireLimits = DEFAULT_WIRE_LIMITS) -> Manifest:
    """The manifest with these canonical bytes; ``root`` is what they have to hash to, when it is known.

    Memory: a small multiple of ``len(data)``, whatever the bytes declare.

    Raises:
        RejectedError: DIGEST_MISMATCH (not the bytes behind ``root``), TOO_LARGE, TOO_MANY_TENSORS, NAME_INVALID,
            TENSOR_DUPLICATED, DTYPE_UNSUPPORTED, HEADER_TOO_LARGE, HEADER_INVALID (everything else).
    """
    where = f"manifest {root.hex()[:12]}" if root is not None else "manifest"
    if len(data) > limits.manifest_bytes:
        fault = f"{len(data)} bytes, {limits.manifest_bytes} are allowed"
        raise RejectedError(RejectReason.HEADER_TOO_LARGE, f"{where}: {fault}", hint="Raise the limit or split it.")
    if root is not None and blake3(data).digest() != root:
        raise RejectedError(
            RejectReason.DIGEST_MISMATCH,
            f"{where}: these are not the bytes with that root",
            hint="Ask for it again, or another node.",
        )
    fields = Unpacking(data, where)
    if fields.remaining < len(MAGIC) or fields.raw(len(MAGIC), "the first line") != MAGIC:
        raise fields.malformed(f"the first line is not {MAGIC.decode().strip()!r}")
    base_root = Root(fields.raw(ID_BYTES, "the root of the base")) if fields.flag("the flag of a base") else None
    tensors = _tensors(fields, limits)
    fields.end()
    return Manifest(tensors, base_root)


def _tensors(fields: Unpacking, limits: WireLimits) -> tuple[TensorEntry, ...]:
    count = fields.number(4, "the number of tensors")
    if count > min(limits.tensors, fields.remaining // _SMALLEST_TENSOR):
        fault = f"{fields.where}: {count} tensors, {limits.tensors} are allowed, {fields.remaining} bytes are left"
        raise RejectedError(RejectReason.TOO_MANY_TENSORS, fault, hint="Raise the limit if the model is known.")
    entries: list[TensorEntry] = []
    before, total = b"", 0
    for _ in range(count):
        name = _name(fields, limits, before)
        before = name.encode()
        spec = _spec(fields, name, limits)
        total += spec.nbytes
        if total > limits.model_bytes:
            fault = f"{fields.where}: tensor {name!r}: more than {limits.model_bytes} bytes of weights up to here"
            raise RejectedError(RejectReason.TOO_LARGE, fault, hint="Raise the limit if the model is known.")
        figures = _figures(fields, spec)
        entries.append(
            TensorEntry(spec, fields.raw(ID_BYTES * block_count(spec.nbytes), f"blocks of {name!r}"), figures)
        )
    return tuple(entries)


def _name(fields: Unpacking, limits: WireLimits, before: bytes) -> str:
    name = fields.text(limits.name_characters, "a tensor's name")
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or "" in parts or name == "__metadata__":
        fault = f"{fields.where}: tensor {name!r}: the name looks like a path or is reserved"
        raise RejectedError(RejectReason.NAME_INVALID, fault, hint="Rename the tensor.")
    if name.encode() == before:
        raise RejectedError(RejectReason.TENSOR_DUPLICATED, f"{fields.where}: tensor {name!r} is there twice")
    if name.encode() < before:
        raise fields.malformed(f"tensor {name!r} comes after {before.decode()!r}; names ascend")
    return name


def _spec(fields: Unpacking, name: str, limits: WireLimits) -> TensorSpec:
    code = fields.number(1, f"the element type of {name!r}")
    if code >= len(DTYPE_CODES):
        raise RejectedError(
            RejectReason.DTYPE_UNSUPPORTED,
            f"{fields.where}: tensor {name!r}: element type number {code} is not known",
            hint="A newer mergenode wrote it: update this node.",
        )
    rank = fields.number(1, f"the number of dimensions of {name!r}")
    if rank > limits.dimensions:
        raise fields.malformed(f"tensor {name!r} has {rank} dimensions, {limits.dimensions} are allowed")
    shape = tuple(fields.number(8, f"the shape of {name!r}") for _ in range(rank))
    return TensorSpec(name, DTYPE_CODES[code], shape)


def _figures(fields: Unpacking, spec: TensorSpec) -> ValueFigures:
    """What a tensor of that type and size can have."""
    finite = fields.flag(f"the finite flag of {spec.name!r}")
    figures = ValueFigures(fields.float(f"the norm of {spec.name!r}"), fields.float("the largest magnitude"), finite)
    if not (spec.dtype.is_float and spec.numel):
        if figures != NOTHING_MEASURED:
            raise fields.malformed(f"tensor {spec.name!r} has no values to measure, and figures {figures}")
    elif not 0 <= figures.max_abs <= figures.l2 <= figures.max_abs * math.sqrt(spec.numel) * _SLACK + _SMALLEST:
        raise fields.malformed(f"tensor {spec.name!r}: no {spec.numel} values have the figures {figures}")
    return figures
