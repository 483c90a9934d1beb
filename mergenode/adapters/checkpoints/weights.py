"""The open weight files of one checkpoint: what they declare, and their bytes on demand."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from mergenode.adapters.checkpoints.header import Header, read_header
from mergenode.adapters.checkpoints.index import parse_index
from mergenode.adapters.checkpoints.layout import Layout, choose_layout, no_weights
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.regular_file import (
    list_directory,
    open_regular,
    pread_into,
    read_small,
)
from mergenode.adapters.checkpoints.side_car_names import WEIGHTS_SUFFIX
from mergenode.errors import RejectedError, RejectReason, TransientError, TransientReason
from mergenode.types import TensorSpec

DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class _Identity:
    """What stays the same while nobody writes to a file or puts another one in its place."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> _Identity:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class _OpenFile:
    name: str
    path: Path
    fd: int
    identity: _Identity
    header: Header


class WeightFiles:
    """Open descriptors of one checkpoint's weight files, with validated headers. Close it, or use it in ``with``.

    Reading is safe from several threads; every tensor lies whole inside one file.
    """

    def __init__(self, path: Path, root: Path, layout: Layout, opened: tuple[_OpenFile, ...]) -> None:
        """Takes ownership of the descriptors; ``open_weights`` is the way to get one."""
        self.path = path
        self.root = root
        self.adapter = layout.adapter
        self.index = layout.index
        self.ignored = layout.ignored
        """Weight files in the same directory that are not part of the checkpoint."""
        self.files: tuple[str, ...] = tuple(item.name for item in opened)
        self._opened = opened
        self._closed = False
        self._places: dict[str, tuple[_OpenFile, int]] = {}
        specs: dict[str, TensorSpec] = {}
        for item in opened:
            for placed in item.header.tensors:
                specs[placed.spec.name] = placed.spec
                self._places[placed.spec.name] = (item, placed.offset)
        self.specs: Mapping[str, TensorSpec] = specs
        """Every tensor, in (file, offset) order."""
        self.total_bytes: int = sum(item.identity.size for item in opened)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the descriptors. Idempotent."""
        if not self._closed:
            self._closed = True
            for item in self._opened:
                os.close(item.fd)

    def file_of(self, name: str) -> str:
        """The plain name of the file that holds tensor ``name`` (KeyError when there is none)."""
        return self._places[name][0].name

    def metadata(self, file: str) -> Mapping[str, str]:
        """``__metadata__`` of one of ``files``."""
        return next(item.header.metadata for item in self._opened if item.name == file)

    def read_into(self, name: str, byte_offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with bytes of tensor ``name`` from ``byte_offset`` on. The buffer stays the caller's.

        Raises:
            TransientError: CHANGED_WHILE_READING when the file became shorter, READ_FAILED on an I/O error.
            ValueError: the range is not inside the tensor, or the files are closed.
        """
        item, start = self._places[name]
        nbytes = self.specs[name].nbytes
        if self._closed or byte_offset < 0 or byte_offset + buffer.nbytes > nbytes:
            raise ValueError(f"{name!r}: {byte_offset} + {buffer.nbytes} of {nbytes} bytes, {self._closed=}")
        pread_into(item.fd, start + byte_offset, buffer, f"{self._shown(item.name)}: tensor {name!r}")

    def expect_passes(self) -> None:
        """Tell the system that every file is read front to back, and that it may read far ahead.

        For passes that go through many files in turn: left alone, each gets small reads, and asking for what comes next
        bit by bit costs the system more than reading it. A hint: it cannot fail.
        """
        for item in self._opened:
            with suppress(OSError):  # a file system without read-ahead
                os.posix_fadvise(item.fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def assert_unchanged(self) -> None:
        """Check that every file is still the one that was opened, by descriptor and by path.

        Raises:
            TransientError: CHANGED_WHILE_READING (size, modification time or inode differ, or the path is gone).
        """
        for item in self._opened:
            try:
                same = _Identity.of(os.fstat(item.fd)) == item.identity
                same = same and _Identity.of(item.path.stat()) == item.identity
            except OSError:
                same = False
            if not same:
                raise TransientError(
                    TransientReason.CHANGED_WHILE_READING,
                    f"{self._shown(item.name)}: changed while it was read",
                    hint="It is read again when it has settled; push checkpoints under a new name instead.",
                )

    def identities(self) -> Iterator[tuple[str, int, int]]:
        """(file name, size in bytes, modification time in ns) of every file, as opened."""
        for item in self._opened:
            yield item.name, item.identity.size, item.identity.mtime_ns

    def _shown(self, file: str) -> str:
        return f"{self.path.name}/{file}" if self.path.name != file else file


def open_weights(path: Path, *, root: Path | None = None, limits: Limits = DEFAULT_LIMITS) -> WeightFiles:
    """Open a checkpoint: a Hugging Face or adapter directory, or a bare ``.safetensors`` file.

    Args:
        root: directory that symlinks may not lead out of; default: the checkpoint directory itself (for a bare file
            the directory it lies in). For paths the operator named himself pass ``trusted_root(path)``, which admits
            snapshots of the Hugging Face cache.

    Raises:
        RejectedError: the container or the directory is not what it should be; see ``layout`` for the rules.
        TransientError: VANISHED, READ_FAILED, CHANGED_WHILE_READING.
    """
    path = Path(os.path.abspath(path))
    try:
        is_directory = stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        is_directory = False  # the openers below say what is wrong
    permitted = root if root is not None else (path if is_directory else path.parent)
    if is_directory:
        directory, layout = path, _directory_layout(path, permitted, limits)
    else:
        directory, layout = path.parent, _bare_layout(path, permitted)
    opened = _open_all(directory, path, permitted, layout, limits)
    try:
        _check_against_index(path, layout, opened)
        return WeightFiles(path, permitted, layout, opened)
    except RejectedError:
        _close_all(opened)
        raise


def _bare_layout(path: Path, root: Path) -> Layout:
    if not path.name.endswith(WEIGHTS_SUFFIX):
        os.close(open_regular(path, root=root, shown=path.name))  # says when it is missing or no file at all
        raise no_weights(path, [path.name])
    return Layout((path.name,), adapter=False)


def _directory_layout(path: Path, root: Path, limits: Limits) -> Layout:
    names = list_directory(path, root=root, max_entries=limits.directory_entries)

    def read_index(name: str) -> dict[str, str]:
        shown = f"{path.name}/{name}"
        text = read_small(
            path / name, root=root, shown=shown, max_bytes=limits.index_bytes, too_large=RejectReason.INDEX_INVALID
        )
        return parse_index(text, file=shown, limits=limits)

    return choose_layout(path, names, read_index)


def _open_all(directory: Path, path: Path, root: Path, layout: Layout, limits: Limits) -> tuple[_OpenFile, ...]:
    opened: list[_OpenFile] = []
    total = tensors = 0
    complete = False
    try:
        for name in layout.files:
            shown = name if directory != path else f"{path.name}/{name}"
            opened.append(_open_one(directory / name, root, name, shown, limits))
            total += opened[-1].identity.size
            tensors += len(opened[-1].header.tensors)
            if total > limits.checkpoint_bytes:
                raise RejectedError(
                    RejectReason.TOO_LARGE, f"{shown}: more than {limits.checkpoint_bytes} bytes of weights"
                )
            if tensors > limits.tensors:
                raise RejectedError(RejectReason.TOO_MANY_TENSORS, f"{shown}: more than {limits.tensors} tensors")
        complete = True
    finally:
        if not complete:
            _close_all(tuple(opened))
    return tuple(opened)


def _open_one(place: Path, root: Path, name: str, shown: str, limits: Limits) -> _OpenFile:
    fd = open_regular(place, root=root, shown=shown)
    complete = False
    try:
        identity = _Identity.of(os.fstat(fd))
        header = read_header(fd, file=shown, limits=limits)
        complete = True
    finally:
        if not complete:
            os.close(fd)
    return _OpenFile(name, place, fd, identity, header)


def _close_all(opened: tuple[_OpenFile, ...]) -> None:
    for item in opened:
        os.close(item.fd)


def _check_against_index(path: Path, layout: Layout, opened: tuple[_OpenFile, ...]) -> None:
    """No tensor twice; with an index: every tensor where it says, and none that it does not name."""
    homes: dict[str, str] = {}
    for item in opened:
        for placed in item.header.tensors:
            name = placed.spec.name
            if name in homes:
                raise RejectedError(
                    RejectReason.TENSOR_DUPLICATED,
                    f"{path.name}/{item.name}: tensor {name!r} is also in {homes[name]}",
                    hint="Save the checkpoint again: every tensor belongs into one shard.",
                )
            homes[name] = item.name
    if layout.weight_map is None:
        return
    for name, shard in layout.weight_map.items():
        if homes.get(name) != shard:
            there = f"it is in {homes[name]}" if name in homes else "it is nowhere"
            raise _index_mismatch(f"{path.name}/{layout.index}: tensor {name!r} should be in {shard}, {there}")
    for name, home in homes.items():
        if name not in layout.weight_map:
            raise _index_mismatch(f"{path.name}/{home}: tensor {name!r} is not named by {layout.index}")


def _index_mismatch(message: str) -> RejectedError:
    return RejectedError(
        RejectReason.INDEX_MISMATCH, message, hint="Index and shards come from two saves: transfer both again."
    )
