"""Defects on purpose: two steps of the commit path in the wrong order. The kill tests must find each of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mergenode.adapters.checkpoints.writer import SafetensorsWriter
from mergenode.adapters.engines.local import shards
from mergenode.adapters.publishers import folder
from mergenode.adapters.publishers.folder import FolderPublisher
from mergenode.adapters.store.generations import FolderGenerations
from mergenode.adapters.store.sqlite_ledger import SqliteLedger
from mergenode.daemon.loop import Loop
from mergenode.ledger.changes import Change
from mergenode.ledger.records import Fact, Folded


def append_before_install() -> None:
    """The ledger names a generation before its files are in place."""
    install, append = FolderGenerations.install, SqliteLedger.append
    waiting: list[tuple[FolderGenerations, int]] = []

    def remember(self: FolderGenerations, generation: int) -> None:
        waiting.append((self, generation))

    def append_first(self: SqliteLedger, *facts: Fact) -> int:
        last = append(self, *facts)
        if waiting and isinstance(facts[0], Folded):
            install(*waiting.pop())
        return last

    FolderGenerations.install = remember  # type: ignore[method-assign]  # a defect on purpose
    SqliteLedger.append = append_first  # type: ignore[method-assign]  # a defect on purpose


def retire_before_append() -> None:
    """The old generation goes before the ledger names the new one."""
    install = FolderGenerations.install

    def install_and_retire(self: FolderGenerations, generation: int) -> None:
        install(self, generation)
        self.retire(generation)

    FolderGenerations.install = install_and_retire  # type: ignore[method-assign]  # a defect on purpose


def latest_before_rename() -> None:
    """``latest`` moves to a version that is not in place yet."""
    publish = FolderPublisher.publish

    def point_first(self: FolderPublisher, version: int, *rest: Any) -> None:
        self.point_latest(version)
        publish(self, version, *rest)

    FolderPublisher.publish = point_first  # type: ignore[method-assign]  # a defect on purpose


def rename_before_complete() -> None:
    """A version becomes visible before its manifest and side files are in it."""
    complete, rename = folder.complete_version, folder.rename_directory

    def rename_first(staging: Path, target: Path) -> None:
        rename(staging, target)
        complete(target, *waiting.pop())

    def remember(staging: Path, *rest: Any) -> None:
        waiting.append(rest)

    waiting: list[tuple[Any, ...]] = []
    folder.complete_version = remember
    folder.rename_directory = rename_first


def record_before_shard() -> None:
    """The record that makes a shard count is written before the shard's header is."""
    finish, write_record = SafetensorsWriter.finish, shards.write_record
    waiting: list[SafetensorsWriter] = []

    def remember(self: SafetensorsWriter) -> None:
        if self.path.name.startswith("shard-"):
            waiting.append(self)
        else:
            finish(self)

    def record_first(target: Path, index: int, record: Mapping[str, Any]) -> None:
        write_record(target, index, record)
        while waiting:
            finish(waiting.pop())

    SafetensorsWriter.finish = remember  # type: ignore[method-assign]  # a defect on purpose
    shards.write_record = record_first


def remove_in_place() -> None:
    """Retention removes a version file by file under its visible name."""

    def remove(path: Path) -> None:
        if path.exists():
            shutil.rmtree(path)

    folder.remove_tree = remove


def shard_not_synced() -> None:
    """A shard counts while its bytes are only in memory: power loss takes them."""
    initialise = SafetensorsWriter.__init__

    def lazy(self: SafetensorsWriter, path: Path, **rest: Any) -> None:
        initialise(self, path, **{**rest, "durable": False})

    SafetensorsWriter.__init__ = lazy  # type: ignore[method-assign]  # a defect on purpose


def forget_request_first() -> None:
    """A request to change the merge is removed before its facts are in the ledger."""
    carry_out = Loop._restate

    def forget_first(self: Loop, change: Change) -> None:
        self.changes.done(change)
        carry_out(self, change)

    Loop._restate = forget_first  # type: ignore[method-assign]  # a defect on purpose


SWAPS: Mapping[str, Callable[[], None]] = {
    swap.__name__: swap
    for swap in (
        append_before_install,
        retire_before_append,
        latest_before_rename,
        rename_before_complete,
        record_before_shard,
        remove_in_place,
        shard_not_synced,
        forget_request_first,
    )
}
