"""A directory as a registry: every entry one level below its root that looks like a checkpoint."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.registries import names
from mergenode.adapters.registries.completeness import (
    Complete,
    EntrySeen,
    Instant,
    Memory,
    SettleRule,
    decide,
    remember,
    settle_seconds_left,
)
from mergenode.adapters.registries.entry import Entry, EntryReader
from mergenode.adapters.registries.filesystem import file_system
from mergenode.adapters.registries.top_level import TopLevel, Unfinished, continues, read_top_level
from mergenode.adapters.registries.walk import Problem, is_inside, stamp_of
from mergenode.errors import RejectReason, TransientError, TransientReason
from mergenode.ports.clock import Clock
from mergenode.types import Candidate, Listing, Refused, Unsettled

REMOTE_CLOCK_SKEW_SECONDS = 3600.0
"""How wrong another machine's clock may be before a change time on its file system is believed."""

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_UNREACHABLE = (
    errno.ENOTCONN, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH,
    errno.ENODEV, errno.ENXIO,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Good:
    """The last good listing: a share that goes away leaves another, empty directory under its name."""

    identity: tuple[int, int]
    held_entries: bool


class FolderRegistry:
    """Lists a directory of checkpoints. Memory is bounded by what is listed; nothing stays open."""

    def __init__(
        self,
        root: Path,
        name: str,
        *,
        clock: Clock,
        settle_seconds: float = 30.0,
        settle_polls: int = 3,
        give_up_seconds: float | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._root = root.absolute()
        self._name = name
        self._clock = clock
        self._rule = SettleRule(settle_seconds, settle_polls, give_up_seconds=give_up_seconds)
        self._limits = limits or Limits()
        self._reader = EntryReader(self._root, self._limits)
        self._memory: dict[str, Memory] = {}
        self._unfinished: Mapping[tuple[int, int], Unfinished] = {}
        self._good: _Good | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def root(self) -> Path:
        return self._root

    def list(self) -> Listing:
        """What is there now: complete, unsettled and refused entries, by name.

        Raises:
            TransientError: REGISTRY_UNREACHABLE when the root is missing, unreadable, or empty where another
                directory with entries was.
        """
        top = read_top_level(self._root, self._limits.directory_entries)
        rule = SettleRule(
            self._rule.seconds,
            self._rule.polls,
            0.0 if file_system(self._root).notifies else REMOTE_CLOCK_SKEW_SECONDS,
            self._rule.give_up_seconds,
        )
        self._reader = self._reader if self._reader.root == os.path.realpath(self._root) else self._new_reader()
        now = Instant(self._clock.unix(), self._clock.monotonic())
        memory: dict[str, Memory] = {}
        answers = []
        for name, status in top.entries.items():
            entry = self._inspect(name, status, top)
            if isinstance(entry, Entry):
                renamed_in = self._was_renamed(entry, status)
                memory[name] = remember(self._memory.get(name), entry.seen.fingerprint, now, renamed_in=renamed_in)
                answers.append(self._judge(entry, memory[name], rule, now))
            elif entry is not None:
                answers.append(entry)
        self._check_still_mounted(top, bool(answers))
        self._memory, self._unfinished = memory, top.unfinished
        self._reader.keep_only(memory)
        return Listing(
            candidates=tuple(answer for answer in answers if isinstance(answer, Candidate)),
            unsettled=tuple(answer for answer in answers if isinstance(answer, Unsettled)),
            refused=tuple(answer for answer in answers if isinstance(answer, Refused)),
        )

    def settled(self, candidate: Candidate) -> None:
        """Nothing to do: the directory belongs to those who push into it."""

    def close(self) -> None:
        """Nothing is held open."""

    def _new_reader(self) -> EntryReader:
        return EntryReader(self._root, self._limits)

    def _check_still_mounted(self, top: TopLevel, holds_entries: bool) -> None:
        if (
            self._good is not None
            and self._good.held_entries
            and not holds_entries
            and self._good.identity != top.identity
        ):
            raise TransientError(
                TransientReason.REGISTRY_UNREACHABLE,
                f"{names.printable(str(self._root))}: empty, where another directory with checkpoints was",
                hint="Mount the share again; restart the node if the registry was emptied on purpose.",
            )
        self._good = _Good(top.identity, holds_entries)

    def _was_renamed(self, entry: Entry, status: os.stat_result) -> bool:
        before = self._unfinished.get((status.st_dev, status.st_ino))
        return before is not None and continues(before, status, Path(entry.location))

    def _inspect(self, name: str, status: os.stat_result, top: TopLevel) -> Entry | Unsettled | Refused | None:
        path = self._root / name
        try:
            if stat.S_ISLNK(status.st_mode):
                followed = self._follow(name, status, top)
                if not isinstance(followed, Path):
                    return followed
                path, status = followed, followed.stat()
            return self._read(path, name, status)
        except OSError as error:
            return self._failed(name, status, error)

    def _failed(self, name: str, status: os.stat_result, error: OSError) -> Entry | Unsettled | None:
        """An entry that cannot be looked at: gone, forbidden, or unreadable for now."""
        shown = names.printable(str(error.filename or self._root / name))
        if error.errno in _GONE:
            return None
        if error.errno in _UNREACHABLE:
            raise TransientError(
                TransientReason.REGISTRY_UNREACHABLE,
                f"{shown}: {error.strerror}",
                hint="Check that the share is mounted and its server answers.",
            ) from error
        if not isinstance(error, PermissionError):
            return Unsettled(self._name, names.printable(name), f"cannot be read now: {error.strerror}")
        hint = "Give the node's user permission to read it."
        problem = Problem(RejectReason.PATH_UNSAFE, f"{shown}: permission denied", hint)
        fingerprint = blake3(repr(stamp_of(status)).encode()).digest(16)
        seen = EntrySeen(names.printable(name), (), status.st_ctime_ns, fingerprint=fingerprint)
        return Entry(seen, shown, "", 0, problem)

    def _follow(self, name: str, status: os.stat_result, top: TopLevel) -> Path | Refused | None:
        """Where a link at the top level leads; None when that is nothing of its own."""
        target = Path(os.path.realpath(self._root / name))
        is_directory = target.is_dir()
        if not is_directory and not names.is_weights(name):
            return None
        if not is_inside(str(target), self._reader.root) or not (is_directory or names.is_weights(target.name)):
            message = f"{names.printable(str(self._root / name))}: a link out of the registry or to no checkpoint"
            hint = "Put the checkpoint itself into the registry, or `mergenode ingest` its path."
            return self._refuse(name, status, RejectReason.PATH_UNSAFE, message, hint)
        listed_itself = str(target.parent) == self._reader.root and target.name in top.entries
        return None if listed_itself else target

    def _read(self, path: Path, name: str, status: os.stat_result) -> Entry | Refused | None:
        mode = status.st_mode
        if not stat.S_ISDIR(mode) and not names.is_weights(name) and not names.is_pickle(name):
            return None
        if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
            message = f"{names.printable(str(path))}: not a regular file"
            return self._refuse(name, status, RejectReason.NOT_REGULAR_FILE, message, "Replace it by the file itself.")
        entry = self._reader.read(path, name)
        if entry is not None and not (names.is_plain(name) and str(path).isprintable()):
            message = f"the name {names.printable(name)!r} holds characters that cannot be stored or shown"
            return self._refuse(name, status, RejectReason.PATH_UNSAFE, message, "Rename it: printable, valid UTF-8.")
        return entry

    def _refuse(self, name: str, status: os.stat_result, reason: RejectReason, message: str, hint: str) -> Refused:
        identity = blake3(repr((os.fsencode(name), status.st_dev, status.st_ino, status.st_ctime_ns)).encode())
        return Refused(self._name, names.printable(name), f"refused:{identity.hexdigest(16)}", reason, message, hint)

    def _judge(self, entry: Entry, memory: Memory, rule: SettleRule, now: Instant) -> Candidate | Unsettled | Refused:
        seen, problem = entry.seen, entry.problem
        if problem is not None:
            at_once = problem.certain or memory.renamed_in
            left = None if at_once else settle_seconds_left(seen, memory, rule, now)
            if left is not None:
                return Unsettled(self._name, seen.name, problem.message, left)
            return Refused(self._name, seen.name, entry.problem_revision, problem.reason, problem.message, problem.hint)
        decision = decide(seen, memory, rule, now)
        if isinstance(decision, Complete):
            return entry.candidate(self._name, attested=decision.attested)
        return Unsettled(self._name, seen.name, decision.why, decision.seconds_left)
