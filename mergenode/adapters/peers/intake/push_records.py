"""What is remembered of pushes that ended: in ``state/pushes`` beside their files, or in ``state/intake/answers``.

A record and the files of a push become visible by one rename. A push whose files are not kept (its content was there
already, or it was rejected) leaves its record alone, so that the question what became of it has an answer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from mergenode.adapters.durable import disk_errors, replace_file, sync_directory
from mergenode.tracing.ids import PUSHES, contribution_trace
from mergenode.types import Digest

RECORD = "mergenode.push.json"
_SCHEMA = "mergenode.push-record/1"
_MOST_ANSWERS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PushRecord:
    """``entry``: its directory in the registry of pushes. ``after``: facts about it come after this one.

    ``same_as``: id of the push that brought this content first. ``time``: when it ended, seconds since 1970.
    ``rejected``: files are gone because it was refused, so that it may be pushed again some day.
    """

    id: str
    owner: str
    key: str
    name: str
    entry: str
    content: Digest
    blocks: int
    after: int
    time: float
    same_as: str = ""
    rejected: bool = False

    @property
    def trace_id(self) -> str:
        """That of the push; empty where no entry was made of it."""
        return contribution_trace(PUSHES, self.entry, self.id) if self.entry else ""

    def packed(self) -> bytes:
        return json.dumps({"schema": _SCHEMA} | asdict(self), indent=1, sort_keys=True).encode() + b"\n"


def read_record(path: Path) -> PushRecord | None:
    """None when it is not there or is none."""
    try:
        document = json.loads(path.read_bytes())
        is_ours = document.pop("schema") == _SCHEMA
        return PushRecord(**document) if is_ours else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


class PushRecords:
    """All records, in memory; a few hundred bytes each. Not thread-safe: used under the lock of the store."""

    def __init__(self, pushes: Path, answers: Path) -> None:
        self._pushes, self._answers = pushes, answers
        with disk_errors(answers):
            for directory in (pushes, answers):
                directory.mkdir(parents=True, exist_ok=True)
        self._by_id: dict[str, PushRecord] = {}
        self._kept: dict[str, str] = {}
        """Entry -> id, of those whose files are here."""
        for name in sorted(os.listdir(answers)):
            record = None if name.startswith(".") else read_record(answers / name)
            if record is not None:
                self._by_id[record.id] = record
        for name in sorted(os.listdir(pushes)):
            record = read_record(pushes / name / RECORD)
            if record is not None:
                self.kept(record)

    def get(self, upload_id: str) -> PushRecord | None:
        return self._by_id.get(upload_id)

    def of_entry(self, entry: str) -> PushRecord | None:
        """Of an entry whose files are here."""
        return self._by_id.get(self._kept.get(entry, ""))

    def with_files(self) -> Iterator[PushRecord]:
        return (self._by_id[upload_id] for upload_id in list(self._kept.values()))

    def of_key(self, owner: str, key: str) -> PushRecord | None:
        found = (record for record in self._by_id.values() if (record.owner, record.key) == (owner, key))
        return next(found, None)

    def kept(self, record: PushRecord) -> None:
        """Its files were renamed into place."""
        self._by_id[record.id] = record
        self._kept[record.entry] = record.id

    def answer(self, record: PushRecord) -> None:
        """Remember a push without files. Durability: on disk on return. The oldest beyond ten thousand are dropped."""
        with disk_errors(self._answers):
            replace_file(self._path(record.id), record.packed())
        self._by_id[record.id] = record
        self._kept.pop(record.entry, None)
        if len(self._by_id) - len(self._kept) > _MOST_ANSWERS:
            self.forget(min(self._without_files(), key=lambda known: known.time))

    def forget(self, record: PushRecord) -> None:
        """A push without files. Idempotence: nothing happens the second time."""
        with disk_errors(self._answers), suppress(FileNotFoundError):
            self._path(record.id).unlink()
            sync_directory(self._answers)
        self._by_id.pop(record.id, None)

    def expire(self, before: float) -> None:
        """Forget the rejected ones from before that time."""
        for record in list(self._without_files()):
            if record.rejected and record.time < before:
                self.forget(record)

    def _without_files(self) -> Iterator[PushRecord]:
        return (record for record in self._by_id.values() if self._kept.get(record.entry) != record.id)

    def _path(self, upload_id: str) -> Path:
        return self._answers / f"{upload_id}.json"
