"""What neighbours answered for, on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import UUID

from mergenode.adapters.durable import disk_errors, replace_file
from mergenode.adapters.peers.pushing.cursors import Cursor

SCHEMA = "mergenode.forwarded/1"


class CursorFile:
    """The cursors of one ledger. Another ledger, or a file that cannot be read, begins anew: duplicates do no harm."""

    def __init__(self, path: Path, ledger_id: str, tell: Callable[[str], None]) -> None:
        self._path, self._ledger_id, self._tell = path, ledger_id, tell

    def read(self) -> dict[UUID, Cursor]:
        """What was written last. Raises TransientError when the disk fails."""
        with disk_errors(self._path):
            try:
                data = self._path.read_bytes()
            except FileNotFoundError:
                return {}
        try:
            document = json.loads(data)
            if document["schema"] != SCHEMA or document["ledger"] != self._ledger_id:
                raise ValueError("it is of another ledger")
            return {UUID(name): _cursor(entry) for name, entry in document["nodes"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._tell(f"{self._path}: not usable ({error}); contributions are offered to all neighbours again")
            return {}

    def write(self, cursors: Mapping[UUID, Cursor]) -> None:
        """Durability: on disk on return. Idempotent. Raises TransientError."""
        nodes = {str(name): {"upto": each.upto, "ahead": sorted(each.ahead)} for name, each in cursors.items()}
        document = {"schema": SCHEMA, "ledger": self._ledger_id, "nodes": nodes}
        with disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._path, json.dumps(document, sort_keys=True).encode())


def _cursor(entry: Mapping[str, object]) -> Cursor:
    upto, ahead = entry["upto"], entry["ahead"]
    if type(upto) is not int or not isinstance(ahead, list) or any(type(each) is not int for each in ahead):
        raise ValueError("numbers of facts are whole numbers")
    return Cursor(upto, frozenset(ahead))
