"""The files of one entry of the shelf, open: its manifest, and every block by its place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from mergenode.adapters.checkpoints.header import read_header
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.regular_file import pread_into
from mergenode.errors import RejectedError, RejectReason
from mergenode.types import TensorSpec
from mergenode.wire.manifest import BlockPlace, Manifest

MANIFEST = "manifest"
WHOLE = "weights.safetensors"
"""The one file of a model; entries of several files, all of this node's own models, have ``PART`` names."""
PART = "weights-{:05d}.safetensors"
_SUFFIX = ".safetensors"
_LIMITS = Limits()

FileIdentity = tuple[int, int, int, int]
"""Device, inode, size and modification time: equal while nobody wrote to the file."""


@dataclass(frozen=True, slots=True)
class EntryFiles:
    """Open descriptors; whoever opened them closes them. Reading is safe from several threads."""

    descriptors: tuple[int, ...]
    places: Mapping[str, tuple[int, int]]
    """Descriptor and offset of every tensor."""
    identities: tuple[FileIdentity, ...]

    def read_into(self, place: BlockPlace, first: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes of a block from ``first`` on, as they lie there, unverified.

        Raises:
            TransientError: READ_FAILED, or CHANGED_WHILE_READING when the file became shorter.
        """
        fd, offset = self.places[place.tensor.spec.name]
        pread_into(fd, offset + place.first_byte + first, buffer, f"shelf: tensor {place.tensor.spec.name!r}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptors back."""
        for fd in self.descriptors:
            os.close(fd)


def open_entry(folder: Path, manifest: Manifest) -> EntryFiles:
    """The weights of the entry in ``folder``.

    Raises:
        RejectedError: they are not the tensors of ``manifest``, or no safetensors.
        OSError, TransientError: they cannot be opened or read.
    """
    descriptors: list[int] = []
    complete = False
    try:
        places: dict[str, tuple[int, int]] = {}
        found: dict[str, TensorSpec] = {}
        for name in weight_names(folder):
            fd = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            descriptors.append(fd)
            for placed in read_header(fd, file=name, limits=_LIMITS).tensors:
                places[placed.spec.name] = (fd, placed.offset)
                found[placed.spec.name] = placed.spec
        if found != {entry.spec.name: entry.spec for entry in manifest.tensors}:
            raise RejectedError(
                RejectReason.DIGEST_MISMATCH, f"shelf: {folder.name[:12]}: its files hold other tensors"
            )
        identities = tuple(_identity(fd) for fd in descriptors)
        complete = True
        return EntryFiles(tuple(descriptors), places, identities)
    finally:
        if not complete:
            for fd in descriptors:
                os.close(fd)


def weight_names(folder: Path) -> list[str]:
    """The files that hold the weights of an entry: the one file where it is there, else all parts."""
    names = sorted(name for name in os.listdir(folder) if name.endswith(_SUFFIX) and not name.startswith("."))
    return [WHOLE] if WHOLE in names else names


def _identity(fd: int) -> FileIdentity:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
