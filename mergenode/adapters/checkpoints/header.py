"""The header of one safetensors file, believed only after every number in it was checked against the file.

Layout (https://huggingface.co/docs/safetensors): 8 bytes little-endian header length, that many bytes of JSON, then
the data; each tensor gives dtype, shape and begin/end offsets into the data, which the tensors cover exactly.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from mergenode.adapters.checkpoints.json_scan import DuplicateKey, JsonFault, JsonScanner
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.regular_file import read_exactly
from mergenode.errors import RejectedError, RejectReason
from mergenode.types import DType, TensorSpec

_LENGTH_BYTES = 8
_METADATA = "__metadata__"
_FIELD_BYTES = 64
_ESCAPE_FACTOR = 6  # JSON may spell a character as backslash, u and four digits
_MAX_OFFSET = (1 << 63) - 1
_TRANSFER_HINT = "Transfer the file again and compare its checksum with the source."
_HEADER_HINT = "Save the checkpoint again with a current safetensors library."


@dataclass(frozen=True, slots=True)
class Placed:
    """One tensor and where its bytes lie, counted from the start of the file."""

    spec: TensorSpec
    offset: int


@dataclass(frozen=True, slots=True)
class Header:
    """A validated header. ``tensors`` in offset order; together they cover the file from ``data_start`` to its end."""

    file: str
    file_size: int
    data_start: int
    tensors: tuple[Placed, ...]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One tensor as declared, not checked against anything but its own syntax."""

    spec: TensorSpec
    begin: int
    end: int


def read_header(fd: int, *, file: str, limits: Limits) -> Header:
    """Read and check the header of an open safetensors file; the descriptor stays the caller's.

    Memory is bounded by the header's size (capped) and the number of tensors (capped), whatever the header says.

    Raises:
        RejectedError: with the reason; the message names ``file`` and the tensor at fault.
        TransientError: the file changed or could not be read.
    """
    file_size = os.fstat(fd).st_size
    length = _header_length(fd, file, file_size, limits)
    text = read_exactly(fd, _LENGTH_BYTES, length, file)
    entries, metadata = _parse(text, file, limits)
    data_start = _LENGTH_BYTES + length
    tensors = _placed(entries, file, data_start, file_size)
    return Header(file, file_size, data_start, tensors, metadata)


def _header_length(fd: int, file: str, file_size: int, limits: Limits) -> int:
    if file_size < _LENGTH_BYTES:
        raise RejectedError(
            RejectReason.HEADER_TOO_SHORT,
            f"{file}: has {file_size} bytes, a safetensors file has at least {_LENGTH_BYTES}",
            hint=_TRANSFER_HINT,
        )
    length = int.from_bytes(read_exactly(fd, 0, _LENGTH_BYTES, file), "little")
    if length > limits.header_bytes:
        raise RejectedError(
            RejectReason.HEADER_TOO_LARGE,
            f"{file}: declares a header of {length} bytes, at most {limits.header_bytes} are read",
            hint="This is not a safetensors file, or only a pointer to one (Git LFS).",
        )
    if length < 2:
        raise RejectedError(
            RejectReason.HEADER_TOO_SHORT, f"{file}: declares a header of {length} bytes", hint=_HEADER_HINT
        )
    if length > file_size - _LENGTH_BYTES:
        raise RejectedError(
            RejectReason.FILE_TRUNCATED,
            f"{file}: declares a header of {length} bytes but has only {file_size} bytes",
            hint=_TRANSFER_HINT,
        )
    return length


def _parse(text: bytes, file: str, limits: Limits) -> tuple[list[_Entry], dict[str, str]]:
    if not text.startswith(b"{"):
        raise RejectedError(
            RejectReason.HEADER_INVALID, f"{file}: the header does not start with '{{'", hint=_HEADER_HINT
        )
    scanner = JsonScanner(text)
    entries: dict[str, _Entry] = {}
    metadata: dict[str, str] | None = None
    name = ""
    try:
        for name in scanner.keys(limits.name_characters * _ESCAPE_FACTOR):
            if name in entries or (name == _METADATA and metadata is not None):
                raise DuplicateKey(f"the key {name!r} is there twice")
            if name == _METADATA:
                metadata = _metadata(scanner, file, limits)
                continue
            if len(entries) == limits.tensors:
                raise RejectedError(
                    RejectReason.TOO_MANY_TENSORS, f"{file}: declares more than {limits.tensors} tensors"
                )
            _check_name(name, file, limits)
            entries[name] = _entry(scanner, name, file, limits)
        scanner.end()
    except JsonFault as error:
        reason = RejectReason.HEADER_DUPLICATE_KEY if isinstance(error, DuplicateKey) else RejectReason.HEADER_INVALID
        where = f"{file}: tensor {name!r}" if name else file
        raise RejectedError(reason, f"{where}: header: {error}", hint=_HEADER_HINT) from error
    return list(entries.values()), metadata or {}


def _metadata(scanner: JsonScanner, file: str, limits: Limits) -> dict[str, str]:
    found: dict[str, str] = {}
    start = scanner.position
    for key in scanner.keys(limits.metadata_bytes):
        if key in found:
            raise DuplicateKey(f"the metadata key {key[:80]!r} is there twice")
        found[key] = scanner.string(limits.metadata_bytes)
        if scanner.position - start > limits.metadata_bytes or len(found) > limits.metadata_entries:
            raise RejectedError(
                RejectReason.HEADER_TOO_LARGE,
                f"{file}: {_METADATA} has more than {limits.metadata_bytes} bytes or {limits.metadata_entries} entries",
            )
    return found


def _entry(scanner: JsonScanner, name: str, file: str, limits: Limits) -> _Entry:
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    offsets: tuple[int, ...] | None = None
    seen: set[str] = set()
    for key in scanner.keys(_FIELD_BYTES):
        if key in seen:
            raise DuplicateKey(f"the key {key!r} is there twice")
        seen.add(key)
        if key == "dtype":
            dtype = scanner.string(_FIELD_BYTES)
        elif key == "shape":
            shape = scanner.naturals(limits.dimensions)
        elif key == "data_offsets":
            offsets = scanner.naturals(2)
        else:
            raise JsonFault(f"unknown key {key!r}")
    if dtype is None or shape is None or offsets is None or len(offsets) != 2:
        raise JsonFault("needs dtype, shape and two data_offsets")
    return _Entry(TensorSpec(name, _dtype(dtype, name, file), shape), offsets[0], offsets[1])


def _dtype(text: str, name: str, file: str) -> DType:
    try:
        return DType(text)
    except ValueError:
        raise RejectedError(
            RejectReason.DTYPE_UNSUPPORTED,
            f"{file}: tensor {name!r}: element type {text!r} is not supported",
            hint=f"Convert it to one of {', '.join(DType)}.",
        ) from None


def _check_name(name: str, file: str, limits: Limits) -> None:
    """Names end up in reports and in other tools' paths: nothing unprintable, nothing that climbs."""
    parts = name.replace("\\", "/").split("/")
    if not name or len(name) > limits.name_characters:
        fault = f"has {len(name)} characters, 1 to {limits.name_characters} are allowed"
    elif not name.isprintable() or name != name.strip():
        fault = "has characters that cannot be printed, or white space around it"
    elif ".." in parts or "" in parts:
        fault = "looks like a path that leaves its directory"
    else:
        return
    raise RejectedError(
        RejectReason.NAME_INVALID, f"{file}: tensor {name[:80]!r}: the name {fault}", hint="Rename the tensor."
    )


def _placed(entries: list[_Entry], file: str, data_start: int, file_size: int) -> tuple[Placed, ...]:
    """Check that the tensors cover the data exactly, in offset order."""
    data_size = file_size - data_start
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    covered = 0
    for entry in entries:
        _check_extent(entry, file)
        if entry.begin != covered:
            _refuse_layout(entry, covered, file)
        covered = entry.end
    if covered > data_size:
        first_cut = next(entry for entry in entries if entry.end > data_size)
        raise RejectedError(
            RejectReason.FILE_TRUNCATED,
            f"{file}: has {file_size} bytes but its header declares {data_start + covered}; "
            f"the first incomplete tensor is {first_cut.spec.name!r}",
            hint=_TRANSFER_HINT,
        )
    if covered < data_size:
        raise RejectedError(
            RejectReason.FILE_TRAILING_BYTES,
            f"{file}: has {file_size} bytes but its header declares {data_start + covered}",
            hint=_TRANSFER_HINT,
        )
    return tuple(Placed(entry.spec, data_start + entry.begin) for entry in entries)


def _check_extent(entry: _Entry, file: str) -> None:
    spec = entry.spec
    where = f"{file}: tensor {spec.name!r}"
    if entry.begin > entry.end or entry.end > _MAX_OFFSET:
        raise RejectedError(
            RejectReason.OFFSETS_INVALID,
            f"{where}: data_offsets {entry.begin}..{entry.end} are not a range",
            hint=_HEADER_HINT,
        )
    if spec.nbytes != entry.end - entry.begin:
        raise RejectedError(
            RejectReason.SIZE_MISMATCH,
            f"{where}: {spec.dtype} {list(spec.shape)} takes {spec.nbytes} bytes, "
            f"data_offsets hold {entry.end - entry.begin}",
            hint=_HEADER_HINT,
        )


def _refuse_layout(entry: _Entry, covered: int, file: str) -> NoReturn:
    overlap = entry.begin < covered
    reason = RejectReason.OFFSETS_OVERLAP if overlap else RejectReason.OFFSETS_GAP
    what = "shares bytes with the tensor before it" if overlap else "leaves bytes before it that no tensor owns"
    raise RejectedError(
        reason,
        f"{file}: tensor {entry.spec.name!r}: starts at {entry.begin}, {what} (ends at {covered})",
        hint=_HEADER_HINT,
    )
