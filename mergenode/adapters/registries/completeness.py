"""When an entry counts as complete: decided from what was seen now and before, and two clocks.

The ladder, best evidence first:

1. a commit marker whose files all exist with the promised sizes (attested),
2. an entry that an earlier listing saw under an in-progress name, renamed since (attested),
3. nothing changed for a while: over enough listings and monotonic seconds, or, for entries that lay there
   before this process did, by the newest change time on disk.

Rungs 2 and 3 also ask that every shard an index or a shard's own name speaks of is there, and that every
safetensors file is as long as its header says. On rung 1 the pusher said that nothing more will come, so
validation gives the reason. A file whose space was allocated before it was written passes all of that: only
the marker's content digest proves more.
"""

from __future__ import annotations

from dataclasses import dataclass

from mergenode.adapters.registries import names
from mergenode.adapters.registries.marker import Marker

_CLOCK_JUMP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class FileSeen:
    """A regular file: name relative to the entry, sizes in bytes, change time in ns since the epoch.

    ``declared``: bytes a safetensors header asks for, else None. ``blake3``: of small promised files.
    """

    name: str
    size: int
    ctime_ns: int
    declared: int | None = None
    blake3: str | None = None


@dataclass(frozen=True, slots=True)
class EntrySeen:
    """What a listing saw. ``shards``: named by the index; ``nested``: weights that lie too deep."""

    name: str
    files: tuple[FileSeen, ...]
    newest_change_ns: int
    shards: tuple[str, ...] = ()
    marker: Marker | None = None
    marker_change_ns: int = 0
    nested: str | None = None
    fingerprint: bytes = b""
    """Equal as long as nothing about the entry changed on disk, time stamps and inodes included."""


@dataclass(frozen=True, slots=True)
class Instant:
    """Wall clock and monotonic clock, seconds, read together."""

    unix: float
    monotonic: float

    @property
    def offset(self) -> float:
        return self.unix - self.monotonic


@dataclass(frozen=True, slots=True)
class SettleRule:
    """When unmarked entries count as complete.

    ``clock_skew_seconds`` is added where time stamps come from another machine's clock. ``give_up_seconds``:
    an unchanged entry that lacks something is offered as it is after this long, so that validation rejects it
    with the reason; None waits for ever.
    """

    seconds: float = 30.0
    polls: int = 3
    clock_skew_seconds: float = 0.0
    give_up_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What earlier listings say about an entry: unchanged since ``since``, over ``polls`` listings."""

    fingerprint: bytes
    since: Instant
    polls: int
    renamed_in: bool = False


@dataclass(frozen=True, slots=True)
class Complete:
    attested: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """``seconds_left``: until waiting alone can help; None when something has to change first."""

    why: str
    seconds_left: float | None = None


def remember(previous: Memory | None, fingerprint: bytes, now: Instant, *, renamed_in: bool = False) -> Memory:
    """The memory after one more listing. A rename only attests what it moved: any later change voids it."""
    if previous is None or previous.fingerprint != fingerprint:
        return Memory(fingerprint, now, 1, renamed_in)
    return Memory(fingerprint, previous.since, previous.polls + 1, previous.renamed_in or renamed_in)


def decide(seen: EntrySeen, memory: Memory, rule: SettleRule, now: Instant) -> Complete | Waiting:
    """Whether the entry is complete, and if not what it waits for."""
    lacking = _lacking(seen)
    if lacking is not None:
        if rule.give_up_seconds is not None and _unchanged(seen, memory, rule, now) >= rule.give_up_seconds:
            return Complete(attested=False)
        return Waiting(lacking)
    if seen.marker is not None and seen.marker_change_ns >= _newest_content_ns(seen, seen.marker):
        return Complete(attested=True)
    if memory.renamed_in:
        return Complete(attested=True)
    left = settle_seconds_left(seen, memory, rule, now)
    if left is None:
        # A marker that came before its files (copied along with them) still attests, once they lie still.
        return Complete(attested=seen.marker is not None)
    why = "files changed after the commit marker" if seen.marker is not None else "waiting until it lies still"
    return Waiting(why, left)


def settle_seconds_left(seen: EntrySeen, memory: Memory, rule: SettleRule, now: Instant) -> float | None:
    """Seconds until the entry counts as lying still, None when it does."""
    watched = now.monotonic - memory.since.monotonic
    if watched >= rule.seconds and memory.polls >= rule.polls:
        return None
    left = max(0.0, rule.seconds - watched)
    age = _age_on_disk(seen, memory, now)
    if age is None:
        return left
    needed = rule.seconds + rule.clock_skew_seconds
    return None if age >= needed else min(left, needed - age)


def _newest_content_ns(seen: EntrySeen, marker: Marker) -> int:
    """Newest change among the files that matter: a log that somebody appends to afterwards does not."""
    matter = (file for file in seen.files if file.name in marker.files or names.defines_content(file.name))
    return max((file.ctime_ns for file in matter), default=0)


def _unchanged(seen: EntrySeen, memory: Memory, rule: SettleRule, now: Instant) -> float:
    age = _age_on_disk(seen, memory, now)
    return max(now.monotonic - memory.since.monotonic, 0.0 if age is None else age - rule.clock_skew_seconds)


def _age_on_disk(seen: EntrySeen, memory: Memory, now: Instant) -> float | None:
    """Seconds since the newest change by the wall clock; None when that clock cannot be believed.

    A time stamp in the future, or a clock that was set since the entry was first seen, says nothing.
    """
    age = now.unix - seen.newest_change_ns / 1e9
    jumped = abs(now.offset - memory.since.offset) > _CLOCK_JUMP_SECONDS
    return None if age < 0 or jumped else age


def _lacking(seen: EntrySeen) -> str | None:
    """What is missing, in words, or None."""
    present = {file.name: file for file in seen.files}
    if seen.marker is not None:
        return _broken_promise(seen.marker, present)
    weights = [file for file in seen.files if "/" not in file.name and names.is_weights(file.name)]
    if not weights and not seen.shards:
        if seen.nested is not None:
            return f"no weights at its top level, they lie deeper: {names.printable(seen.nested)}"
        return "no weights yet"
    return _missing_shard(seen, weights, present) or _short_file(seen)


def _missing_shard(seen: EntrySeen, weights: list[FileSeen], present: dict[str, FileSeen]) -> str | None:
    for shard in seen.shards:
        if shard not in present:
            return f"shard {names.printable(shard)} of the index is missing"
    for family in sorted({family for file in weights if (family := names.shard_family(file.name))}):
        shard_missing = next((shard for shard in names.shards_of(family) if shard not in present), None)
        if shard_missing is not None:
            return f"shard {names.printable(shard_missing)} is missing"
    return None


def _short_file(seen: EntrySeen) -> str | None:
    for file in seen.files:
        if names.is_in_progress(file.name):
            return f"file {names.printable(file.name)} is still being written"
        if file.declared is not None and file.size < file.declared:
            return f"file {names.printable(file.name)} is {file.size} of {file.declared} bytes"
    return None


def _broken_promise(marker: Marker, present: dict[str, FileSeen]) -> str | None:
    for name, promise in marker.files.items():
        file = present.get(name)
        shown = names.printable(name)
        if file is None:
            return f"file {shown} of the commit marker is missing"
        if file.size < promise.size:
            return f"file {shown} is {file.size} of {promise.size} bytes"
        if file.size > promise.size:
            return f"file {shown} has {file.size} bytes, its commit marker says {promise.size}: commit it again"
        if promise.blake3 is not None and file.blake3 is not None and file.blake3 != promise.blake3:
            return f"file {shown} is not the one that was committed: commit it again"
    return None
