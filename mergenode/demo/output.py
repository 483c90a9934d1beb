"""The demo's directory: ours or empty, never somebody else's."""

from __future__ import annotations

import shutil
from pathlib import Path

from mergenode.adapters.store.lock import read_lock
from mergenode.errors import UsageError

MARK = ".mergenode-demo"


def fresh_output(directory: Path) -> Path:
    """An empty directory for the demo; what an earlier demo left in it is removed.

    Raises:
        UsageError: it is a file, holds something that is not ours, or a node still runs in it.
    """
    directory = directory.absolute()
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory}: is a file", hint="give another --output")
    if directory.exists() and any(directory.iterdir()):
        if not (directory / MARK).is_file():
            raise UsageError(
                f"{directory}: is not empty and was not made by the demo", hint="give another --output, or empty it"
            )
        for state in (directory / "state", *sorted(directory.glob("*/node-*/state"))):
            owner = read_lock(state) if state.is_dir() else None
            if owner is not None and owner.held:
                raise UsageError(
                    f"{directory}: an earlier demo's node still runs there (process {owner.pid})",
                    hint=f"end it with `kill {owner.pid}`, or give another --output",
                )
        for entry in directory.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MARK).write_text("made by `mergenode demo`, which may remove everything here\n", encoding="utf-8")
    return directory
