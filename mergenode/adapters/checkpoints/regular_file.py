"""Opening files that somebody else may replace at any moment: regular files only, never outside a permitted root."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import NoReturn

from mergenode.errors import RejectedError, RejectReason, TransientError, TransientReason

_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_DIRECTORY
_SWAPPED = (errno.ELOOP, errno.ENOTDIR, errno.EMLINK)
_LINK_HINT = "Copy the file itself into the checkpoint instead of a link to it."


def trusted_root(path: Path) -> Path:
    """The root that symlinks may not leave, for a path that the operator named himself.

    A snapshot of the Hugging Face cache links into the ``blobs`` folder beside it, so the root is the folder of that
    repository; anything else is its own root (a bare file: the directory that holds it).
    """
    place = path.resolve() if path.is_dir() else path.parent.resolve()
    if place.parent.name == "snapshots" and (place.parent.parent / "blobs").is_dir():
        return place.parent.parent
    return place


def resolve_inside(path: Path, root: Path, shown: str) -> tuple[Path, Path]:
    """``path`` relative to the real ``root``, all symlinks followed, and the real root.

    Raises:
        RejectedError: PATH_UNSAFE when it leads out of ``root``.
        TransientError: VANISHED when it does not exist (any more).
    """
    try:
        real_root = Path(os.path.realpath(root, strict=True))
    except OSError as error:
        _raise_os_error(error, str(root))
    try:
        target = Path(os.path.realpath(path, strict=True))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RejectedError(
                RejectReason.PATH_UNSAFE, f"{shown}: is a link that leads back to itself", hint=_LINK_HINT
            ) from error
        target = Path(os.path.realpath(path))  # missing: where it would be still has to lie inside
    if target != real_root and not target.is_relative_to(real_root):
        raise RejectedError(
            RejectReason.PATH_UNSAFE,
            f"{shown}: is a link that leads out of {root}",
            hint=_LINK_HINT,
        )
    return target.relative_to(real_root), real_root


def open_regular(path: Path, *, root: Path, shown: str) -> int:
    """A descriptor of a regular file inside ``root``, owned by the caller. Never blocks on a FIFO.

    Links are resolved first and the result is then opened directory by directory without following any, so that a
    link swapped in between is noticed instead of followed. ``shown`` is the name used in messages.

    Raises:
        RejectedError: PATH_UNSAFE (leads out of the root), NOT_REGULAR_FILE (directory, FIFO, socket, device).
        TransientError: VANISHED, READ_FAILED (permission, I/O), CHANGED_WHILE_READING (swapped while opening).
    """
    inside, real_root = resolve_inside(path, root, shown)
    try:
        fd = _open_without_links(real_root, inside, _FILE_FLAGS)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a FIFO opened in a way it does not offer
            raise _not_regular(shown, "a socket or device") from error
        _raise_os_error(error, shown)
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise _not_regular(shown, _file_type(mode))
    return fd


def list_directory(path: Path, *, root: Path, max_entries: int) -> tuple[str, ...]:
    """Sorted names in a directory inside ``root``.

    Raises:
        RejectedError: PATH_UNSAFE, TOO_LARGE (too many entries), NOT_REGULAR_FILE (not a directory).
        TransientError: VANISHED, READ_FAILED, CHANGED_WHILE_READING.
    """
    inside, real_root = resolve_inside(path, root, str(path))
    names: list[str] = []
    try:
        fd = _open_without_links(real_root, inside, _DIRECTORY_FLAGS)
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    names.append(entry.name)
                    if len(names) > max_entries:
                        raise RejectedError(
                            RejectReason.TOO_LARGE, f"{path}: has more than {max_entries} directory entries"
                        )
        finally:
            os.close(fd)
    except OSError as error:
        _raise_os_error(error, str(path))
    return tuple(sorted(names))


def read_exactly(fd: int, offset: int, size: int, shown: str) -> bytes:
    """``size`` bytes from ``offset``; the caller has checked that the file is that long and capped the size.

    Raises:
        TransientError: CHANGED_WHILE_READING when the file ends earlier, READ_FAILED on an I/O error.
    """
    buffer = bytearray(size)
    pread_into(fd, offset, memoryview(buffer), shown)
    return bytes(buffer)


def pread_into(fd: int, offset: int, buffer: memoryview, shown: str) -> None:
    """Fill ``buffer`` from ``offset``; safe from several threads, the descriptor's own position is not used.

    Raises:
        TransientError: CHANGED_WHILE_READING when the file ends earlier, READ_FAILED on an I/O error.
    """
    view = buffer.cast("B")
    done = 0
    while done < len(view):
        try:
            count = os.preadv(fd, [view[done:]], offset + done)
        except OSError as error:
            _raise_os_error(error, shown)
        if count == 0:
            raise TransientError(
                TransientReason.CHANGED_WHILE_READING,
                f"{shown}: ends at byte {offset + done}, {len(view) - done} bytes were still expected",
                hint="The file was shortened while it was read; it is read again when it has settled.",
            )
        done += count


def read_small(path: Path, *, root: Path, shown: str, max_bytes: int, too_large: RejectReason) -> bytes:
    """The whole of a small file inside ``root``.

    Raises:
        RejectedError: ``too_large`` beyond ``max_bytes``, and what ``open_regular`` raises.
        TransientError: as ``open_regular``.
    """
    fd = open_regular(path, root=root, shown=shown)
    try:
        size = os.fstat(fd).st_size
        if size > max_bytes:
            raise RejectedError(too_large, f"{shown}: has {size} bytes, at most {max_bytes} are read")
        return read_exactly(fd, 0, size, shown)
    finally:
        os.close(fd)


def _open_without_links(root: Path, inside: Path, last_flags: int) -> int:
    """Open ``root / inside`` one component at a time relative to the directory before, following no link."""
    fd = os.open(root, _DIRECTORY_FLAGS & ~os.O_NOFOLLOW)
    parts = inside.parts
    if not parts:
        return fd
    for position, part in enumerate(parts):
        flags = last_flags if position == len(parts) - 1 else _DIRECTORY_FLAGS
        try:
            deeper = os.open(part, flags, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd


def _not_regular(shown: str, found: str) -> RejectedError:
    return RejectedError(
        RejectReason.NOT_REGULAR_FILE,
        f"{shown}: is {found}, not a regular file",
        hint="Put the file itself in this place.",
    )


def _file_type(mode: int) -> str:
    for test, name in (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if test(mode):
            return name
    return "something else"


def _raise_os_error(error: OSError, shown: str) -> NoReturn:
    """What an error of the operating system means for a checkpoint."""
    if error.errno == errno.ENOENT:
        raise TransientError(TransientReason.VANISHED, f"{shown}: is not there (any more)") from error
    if error.errno in _SWAPPED:
        raise TransientError(
            TransientReason.CHANGED_WHILE_READING, f"{shown}: was replaced while it was opened"
        ) from error
    if error.errno == errno.ESTALE:
        raise TransientError(TransientReason.VANISHED, f"{shown}: stale network file handle") from error
    hint = "Check the disk or the network share it lies on; it is read again later."
    if error.errno == errno.EACCES:
        hint = "Give the user that runs mergenode the right to read it."
    raise TransientError(
        TransientReason.READ_FAILED, f"{shown}: cannot be read: {error.strerror or error}", hint=hint
    ) from error
