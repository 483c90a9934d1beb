"""What the operator asked to be changed: one small file per request in ``state/changes``, written atomically.

A request is removed once its facts are in the ledger. One that cannot be carried out becomes an answer with the same
name, which the command that asked reads and removes.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mergenode.adapters.durable import disk_errors, replace_file, sync_directory
from mergenode.errors import FatalError
from mergenode.ledger.changes import DROP, RELEASE, Change
from mergenode.ports.clock import Clock
from mergenode.types import Digest

CHANGES = "changes"
_REQUEST, _REFUSAL = ".json", ".refused"
_MOST_BYTES = 1 << 20
_KEYS = frozenset({"contents", "rollback_to", "why", "places", "forget", "quarantine", "who"})
_LATER = frozenset({"forget", "quarantine", "who"})
"""Keys that requests of an earlier mergenode do not have."""


@dataclass(frozen=True, slots=True)
class FolderChangeRequests:
    """Implements ports.changes.ChangeRequests below a state directory."""

    state: Path

    @property
    def directory(self) -> Path:
        return self.state / CHANGES

    def submit(self, change: Change, clock: Clock) -> Change:
        """Ask for a change; returns it with its id. Durability: survives a power loss from the return on."""
        identity = f"{int(clock.unix() * 1e6):020d}-{secrets.token_hex(4)}"
        document = {
            "contents": list(change.contents),
            "rollback_to": change.rollback_to,
            "why": change.why,
            "places": dict(change.places),
            "forget": change.forget,
            "quarantine": change.quarantine,
            "who": change.who,
        }
        with disk_errors(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            replace_file(self.directory / f"{identity}{_REQUEST}", json.dumps(document).encode() + b"\n")
        return replace(change, id=identity)

    def pending(self) -> Sequence[Change]:
        with disk_errors(self.directory):
            if not self.directory.is_dir():
                return ()
            found = sorted(path for path in self.directory.iterdir() if _is_request(path))
            for path in found:
                if path.with_suffix(_REFUSAL).exists():
                    path.unlink(missing_ok=True)  # a kill came between the answer and this
            return tuple(_read(path) for path in found if path.exists())

    def waiting(self) -> Sequence[tuple[str, Change | None]]:
        """What waits, with its id; None: nobody understands it. Changes nothing, for who looks at a node from outside.

        Raises TransientError when it cannot be read.
        """
        found: list[tuple[str, Change | None]] = []
        with disk_errors(self.directory):
            for path in sorted(self.directory.iterdir()) if self.directory.is_dir() else ():
                if not _is_request(path) or path.with_suffix(_REFUSAL).exists():
                    continue
                try:
                    found.append((path.stem, _read(path)))
                except FileNotFoundError:
                    continue  # carried out meanwhile
                except FatalError:
                    found.append((path.stem, None))
        return found

    def done(self, change: Change) -> None:
        with disk_errors(self.directory):
            (self.directory / f"{change.id}{_REQUEST}").unlink(missing_ok=True)
            sync_directory(self.directory)

    def refused(self, change: Change, message: str, hint: str) -> None:
        with disk_errors(self.directory):
            answer = json.dumps({"message": message, "hint": hint}).encode() + b"\n"
            replace_file(self.directory / f"{change.id}{_REFUSAL}", answer)
        self.done(change)

    def is_pending(self, change: Change) -> bool:
        """Whether the request still waits."""
        return (self.directory / f"{change.id}{_REQUEST}").exists()

    def take_refusal(self, change: Change) -> tuple[str, str] | None:
        """Message and hint of a request that could not be carried out, once; None when there is no such answer."""
        path = self.directory / f"{change.id}{_REFUSAL}"
        with disk_errors(self.directory):
            try:
                answer = json.loads(path.read_bytes())
            except FileNotFoundError:
                return None
            path.with_suffix(_REQUEST).unlink(missing_ok=True)  # first: once told, it is never carried out
            path.unlink()
        return str(answer["message"]), str(answer["hint"])


def _is_request(path: Path) -> bool:
    return path.suffix == _REQUEST and not path.name.startswith(".")


def _read(path: Path) -> Change:
    """Raises FatalError: the directory is the node's own, and what it does not understand it must not skip."""
    with path.open("rb") as stream:
        data = stream.read(_MOST_BYTES + 1)
    try:
        document = json.loads(data) if len(data) <= _MOST_BYTES else None
        return _change(path.stem, document)
    except (ValueError, RecursionError) as error:
        raise FatalError(
            f"{path}: not a request that this mergenode understands: {error}",
            hint="Remove the file and ask again with `mergenode retract` or `mergenode rollback`.",
        ) from error


def _change(identity: str, document: Any) -> Change:
    if not isinstance(document, Mapping) or not _KEYS >= document.keys() >= _KEYS - _LATER:
        raise ValueError(f"not an object with {', '.join(sorted(_KEYS))}")
    contents, back, why, places = (document[key] for key in ("contents", "rollback_to", "why", "places"))
    texts = isinstance(contents, list) and all(isinstance(content, str) for content in contents)
    number = back is None or (isinstance(back, int) and not isinstance(back, bool))
    mapped = isinstance(places, Mapping) and all(isinstance(place, str) for place in places.values())
    forget, quarantine, who = document.get("forget"), document.get("quarantine"), document.get("who", "")
    node = forget is None or isinstance(forget, str)
    decision = quarantine in (None, RELEASE, DROP) and isinstance(who, str)
    if not (texts and number and mapped and node and decision and isinstance(why, str)):
        raise ValueError("a value has the wrong type")
    return Change(
        identity, tuple(Digest(content) for content in contents), back, why,
        {Digest(content): place for content, place in places.items()}, forget, quarantine, who,
    )  # fmt: skip
