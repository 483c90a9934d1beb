"""Whether files are there, where nobody may be able to tell: a share whose server is gone answers with errors."""

from __future__ import annotations

import errno
import os

from mergenode.errors import TransientError, TransientReason

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EBADF)


def is_there(path: str | os.PathLike[str]) -> bool:
    """Whether a path leads to something.

    Raises TransientError (REGISTRY_UNREACHABLE): it cannot be told now, which is neither yes nor no.
    """
    try:
        os.stat(path)
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise TransientError(
            TransientReason.REGISTRY_UNREACHABLE,
            f"{os.fspath(path)}: {error.strerror}",
            hint="Mount the share again, or give the node's user permission to read it.",
        ) from error
    except ValueError:  # no path at all
        return False
    return True
