"""Where a command may put what it makes."""

from __future__ import annotations

import os
from pathlib import Path

from mergenode.errors import UsageError


def free_output(given: Path) -> Path:
    """The absolute path of an output that can be made. Raises UsageError when something is there already."""
    output = Path(os.path.abspath(given))
    taken = output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir())))
    # Renamed over the current directory, the result would lie where the user's shell no longer looks.
    if taken or output == Path.cwd():
        raise UsageError(f"{given}: already exists", hint="Choose a new --output; nothing is ever overwritten.")
    nearest = next(parent for parent in output.parents if parent.exists())
    if not nearest.is_dir():
        raise UsageError(f"{given}: {nearest} is not a directory", hint="Choose another --output.")
    return output
