"""The store of uploads: who may begin one, what becomes of it, and what is left after a kill.

state/intake/<upload id>/  --commit: one rename-->  state/pushes/<name>@<root>/   an ordinary checkpoint, marked
state/intake/accounts/     what each pusher sent within a day
state/intake/answers/      what became of pushes whose files are not kept
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import grpc

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.durable import disk_errors, remove_tree, rename_directory, replace_file, sync_directory
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.peers.intake.allowances import Allowances
from mergenode.adapters.peers.intake.intake_refusals import RefusedError
from mergenode.adapters.peers.intake.outcomes import Fate, Outcome, Outcomes
from mergenode.adapters.peers.intake.push_records import RECORD, PushRecord, PushRecords
from mergenode.adapters.peers.intake.upload import LEFTOVERS, Upload
from mergenode.adapters.peers.intake.upload_admission import Budget, UploadLimits, admit
from mergenode.adapters.peers.intake.upload_blocks import Stop
from mergenode.adapters.peers.intake.upload_check import check_base, check_schema
from mergenode.adapters.peers.intake.upload_terms import Terms, invalid
from mergenode.adapters.registries.marker import write_marker
from mergenode.adapters.registries.pushes import REGISTRY, pushes_directory
from mergenode.ports.clock import Clock
from mergenode.ports.observer import Observer
from mergenode.tracing.ids import ROOT_DIGITS
from mergenode.types import Candidate, Digest
from mergenode.wire.blocks import BlockId

INTAKE = "intake"
_ACCOUNTS, _ANSWERS = "accounts", "answers"
_GONE = (Fate.REJECTED, Fate.DUPLICATE)


class Held(Protocol):
    """A model that lies here."""

    def read(self, block: BlockId) -> bytes | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeSide:
    """What an intake needs to know of its node. ``poke`` wakes the loop; ``held``: the base, block by block."""

    state: Path
    base: BaseModel
    clock: Clock
    outcomes: Outcomes
    held: Held | None = None
    limits: UploadLimits = field(default_factory=UploadLimits)
    checkpoints: Limits = field(default_factory=Limits)
    poke: Callable[[], None] = lambda: None
    observer: Observer = field(default_factory=lambda: FanOut([]))
    """Told how far uploads are."""


class Uploads:
    """All uploads of a node. Safe to use from several threads; the lock is never held while weights are read."""

    def __init__(self, side: IntakeSide) -> None:
        """Recover what an earlier life left. The state directory has to be locked by this process."""
        self.side = side
        self._lock = threading.RLock()
        self._root = side.state / INTAKE
        self._pushes = pushes_directory(side.state)
        self._uploads: dict[str, Upload] = {}
        self._unsynced = False
        """A push is in its place, but that may not be durable."""
        with disk_errors(self._root):
            self._records = PushRecords(self._pushes, self._root / _ANSWERS)
            self._allowances = Allowances(self._root / _ACCOUNTS, side.clock.unix)
            self._recover()

    def begin(self, terms: Terms, files: dict[str, bytes], quota: int | None = None) -> tuple[bytes, float]:
        """Make room for an upload, or find the one that it is: (its id, 0), or (nothing, seconds to wait).

        ``quota``: bytes a day of this pusher, when it has one of its own.
        Durability: it survives from the return on. Idempotence: the same pusher and content, or key, is one upload.
        Raises RefusedError (QUOTA, TOO_LARGE, BAD_SCHEMA, a key used for another model), TransientError.
        """
        check_base(terms.marker.base, self.side.base)
        with self._lock:
            self.tidy()
            self._check_key(terms)
            upload_id = terms.id.hex()
            upload = self._uploads.get(upload_id)
            if upload is not None and _sizes(upload.terms) != _sizes(terms):
                self._declared_otherwise(upload)
                upload = None
            if upload is not None and upload.terms != terms:
                upload.store_terms(terms)
            if upload is None and self._records.get(upload_id) is None:
                wait = admit(terms, self._budget(terms.owner, quota), self.side.limits)
                if wait:
                    return b"", wait
                self._create(upload_id, terms, files)
            return terms.id, 0.0

    def of(self, owner: str, upload_id: bytes) -> Upload | PushRecord:
        """The upload of this pusher, or what is remembered of it. Raises RefusedError (NOT_FOUND)."""
        with self._lock:
            name = upload_id.hex()
            record, upload = self._records.get(name), self._uploads.get(name)
            if record is not None and record.owner == owner:
                return record
            if upload is None or upload.terms.owner != owner:
                raise RefusedError(
                    grpc.StatusCode.NOT_FOUND,
                    f"there is no upload {name[:16]!r}: it was dropped, or is somebody else's",
                    hint="Begin again; what was committed is not sent twice.",
                )
            return upload

    def prepare(self, upload: Upload, stop: Stop) -> tuple[int, int]:
        """Take the spooled manifest, and the blocks that lie here; number of blocks and which are wanted.

        An upload that does not fit the base is dropped. Raises RefusedError, RejectedError, TransientError.
        """
        try:
            upload.prepare(self.side.limits.wire, lambda folder: check_schema(folder, self.side.base, self._files))
        except RefusedError:
            with self._lock:
                self._drop(upload)
            raise
        with upload.used():
            blocks = upload.blocks()
            if self.side.held is not None and not upload.terms.adapter_config:
                blocks.copy_held(self.side.held.read, stop)
            return blocks.manifest.block_count, blocks.wanted

    def commit(self, owner: str, upload_id: bytes, stop: Stop) -> PushRecord:
        """Hash everything once more and hand it to the registry. Called again, it says the same.

        Durability: the push is complete and survives from the return on, or nothing of it is visible.
        Raises RefusedError (FAILED_PRECONDITION) while blocks are missing, RejectedError (adapter settings),
        TransientError.
        """
        found = self.of(owner, upload_id)
        if isinstance(found, PushRecord):
            self._sync_pushes()
            return found
        with found.used():
            blocks = found.blocks()
            blocks.fill_repeats(stop)
            content = blocks.verified_content(found.adapter_settings(self._files), stop)
            count = blocks.manifest.block_count
        with self._lock:
            known = self._records.get(found.folder.name)
            return known if known is not None else self._close(found, content, count)

    def answer(self, record: PushRecord) -> Outcome | None:
        """What became of a push; None: it waits. Raises TransientError when the ledger cannot be read now."""
        outcomes = self.side.outcomes
        if record.entry:
            outcome = outcomes.of_push(record.entry, record.after)
            if outcome is None:
                return _of_another_name(outcomes.of_pool(record.content))
            if outcome.fate is not Fate.DUPLICATE:
                return outcome
        in_merge = outcomes.of_content(record.content)
        if in_merge is not None:
            return _of_another_name(in_merge)
        with self._lock:
            first = self._records.get(record.same_as)
        outcome = self.answer(first) if first is not None and not first.same_as else None
        if outcome is not None and outcome.fate in (Fate.REJECTED, Fate.NOT_SELECTED):
            return outcome
        return Outcome(Fate.DUPLICATE, message="the same content was pushed before")

    def id_of_key(self, owner: str, key: str) -> bytes:
        """The upload that this pusher began under a key; nothing when there is none."""
        with self._lock:
            record = self._records.of_key(owner, key) if key else None
            open_ones = (name for name, known in self._uploads.items() if _key(known) == (owner, key))
            return bytes.fromhex(record.id if record is not None else next(open_ones, "") if key else "")

    def settled(self, candidate: Candidate) -> None:
        """The loop recorded an outcome: files that were refused, or that are in the merge already, go."""
        with self._lock:
            record = self._records.of_entry(candidate.name)
            if candidate.registry == REGISTRY and record is not None:
                self._remove_if_gone(record)

    def tidy(self) -> None:
        """Drop uploads without progress and old rejections. Idempotent, cheap when there is nothing to do."""
        with self._lock:
            before = self.side.clock.unix() - self.side.limits.expire_seconds
            for upload in [known for known in self._uploads.values() if known.touched < before]:
                if not upload.in_use:
                    self._charge(upload, None)
                    self._drop(upload)
            self._records.expire(before)

    @property
    def _files(self) -> Limits:
        return self.side.checkpoints

    def _recover(self) -> None:
        for name in sorted(os.listdir(self._root)):
            folder = self._root / name
            if name in (_ACCOUNTS, _ANSWERS) or not folder.is_dir():
                continue
            try:
                upload = Upload.read(folder, self.side.clock.unix())
            except (OSError, KeyError, TypeError, ValueError):
                remove_tree(folder)  # it was being made or removed
            else:
                self._uploads[name] = upload
        self._allowances.tidy()
        for name in os.listdir(self._pushes):
            if name.startswith(".") and (self._pushes / name).is_dir():
                remove_tree(self._pushes / name)  # it was being removed
        for record in self._records.with_files():
            _remove_leftovers(self._pushes / record.entry)
            self._remove_if_gone(record)

    def _check_key(self, terms: Terms) -> None:
        if not terms.key:
            return
        other = self._records.of_key(terms.owner, terms.key)
        ids = {name for name, known in self._uploads.items() if _key(known) == (terms.owner, terms.key)}
        ids |= {other.id} if other is not None else set()
        if ids - {terms.id.hex()}:
            raise invalid("the idempotency key was used for another model", "Take a new key for new weights.")

    def _sync_pushes(self) -> None:
        """Make good what failed after a rename."""
        with self._lock, disk_errors(self._pushes):
            if self._unsynced:
                sync_directory(self._pushes)
                self._unsynced = False

    def _declared_otherwise(self, upload: Upload) -> None:
        """Other sizes for the same root: one of the two is wrong, and room was checked for the first."""
        if upload.prepared or upload.in_use:
            raise invalid("other sizes than those of the manifest with that root")
        self._drop(upload)

    def _budget(self, owner: str, quota: int | None) -> Budget:
        theirs = [upload for upload in self._uploads.values() if upload.terms.owner == owner]
        return Budget(
            place=self._root,
            quota=self.side.limits.daily_quota if quota is None else min(quota, self.side.limits.daily_quota),
            account=self._allowances,
            open_bytes=sum(upload.terms.weight_bytes for upload in theirs),
            open_uploads=len(theirs),
            all_uploads=len(self._uploads),
            outstanding=sum(upload.room_outstanding() for upload in self._uploads.values()),
        )

    def _create(self, name: str, terms: Terms, files: dict[str, bytes]) -> None:
        now = self.side.clock.unix()
        made = self._root / f".{name}.new"
        with disk_errors(made):
            remove_tree(made)
            made.mkdir()
            upload = Upload(made, terms, now, now)
            for file, content in files.items():
                replace_file(made / file, content)
            upload.store_terms(terms)
            rename_directory(made, self._root / name)
        upload.folder = self._root / name
        self._uploads[name] = upload

    def _close(self, upload: Upload, content: Digest, blocks: int) -> PushRecord:
        """The end of an upload, under the lock: its files become visible, or only its record stays."""
        terms, outcomes = upload.terms, self.side.outcomes
        known = outcomes.of_content(content)
        same = next((record for record in self._records.with_files() if record.content == content), None)
        if same is not None and same.id == upload.folder.name:
            same = None
        entry = "" if known is not None or same is not None else self._entry(terms, content)
        record = PushRecord(
            id=upload.folder.name, owner=terms.owner, key=terms.key, name=terms.name, entry=entry, content=content,
            blocks=blocks, after=outcomes.position(), time=self.side.clock.unix(),
            same_as=same.id if same is not None else "",
            rejected=known is not None and known.fate in (Fate.RETRACTED, Fate.REJECTED),
        )  # fmt: skip
        self._charge(upload, blocks)
        if entry:
            self._make_visible(upload, record)
        else:
            self._records.answer(record)
            self._drop(upload)
        return record

    def _make_visible(self, upload: Upload, record: PushRecord) -> None:
        target, marker = self._pushes / record.entry, upload.terms.marker
        with disk_errors(target):
            write_marker(
                upload.folder, content=record.content, weight=marker.weight, base=marker.base,
                profile=dict(marker.profile),
            )  # fmt: skip
            replace_file(upload.folder / RECORD, record.packed())
            self._unsynced = True
            try:
                rename_directory(upload.folder, target)  # the commit point: files, marker, record appear together
                self._unsynced = False
            finally:
                if not upload.folder.exists():  # renamed, even if the sync after it failed
                    self._uploads.pop(record.id)
                    self._records.kept(record)
            _remove_leftovers(target)
        self.side.poke()

    def _entry(self, terms: Terms, content: Digest) -> str:
        """A directory name that is free."""
        entry = f"{terms.name}@{terms.root.hex()[:ROOT_DIGITS]}"
        if (self._pushes / entry).exists():  # the same tensors with other adapter settings
            entry = f"{entry}-{content.partition(':')[2][:ROOT_DIGITS]}"
        return entry

    def _charge(self, upload: Upload, blocks: int | None) -> None:
        """Count what was sent: all of a complete upload, what arrived of one that was given up."""
        nbytes = upload.terms.weight_bytes
        if blocks is None:
            if not upload.prepared:
                return
            with upload.used():
                nbytes = upload.blocks().written_bytes()
        self._allowances.charge(upload.terms.owner, upload.charge_name, nbytes)

    def _drop(self, upload: Upload) -> None:
        with disk_errors(upload.folder):
            remove_tree(upload.folder)
        self._uploads.pop(upload.folder.name, None)

    def _remove_if_gone(self, record: PushRecord) -> None:
        outcome = self.side.outcomes.of_push(record.entry, record.after)
        if outcome is None or outcome.fate not in _GONE:
            return
        rejected = outcome.fate is Fate.REJECTED
        self._records.answer(replace(record, time=self.side.clock.unix(), rejected=rejected))
        with disk_errors(self._pushes):
            remove_tree(self._pushes / record.entry)


def _of_another_name(outcome: Outcome | None) -> Outcome | None:
    """What became of a content, as the answer about a push of it that has no outcome of its own."""
    if outcome is None or outcome.fate is not Fate.FOLDED:
        return outcome
    return replace(outcome, fate=Fate.DUPLICATE, in_merge=True)


def _key(upload: Upload) -> tuple[str, str]:
    return (upload.terms.owner, upload.terms.key)


def _sizes(terms: Terms) -> tuple[int, int]:
    return (terms.manifest_bytes, terms.weight_bytes)


def _remove_leftovers(folder: Path) -> None:
    """What the upload needed and the checkpoint does not."""
    with disk_errors(folder):
        there = [folder / name for name in LEFTOVERS if (folder / name).exists()]
        for path in there:
            path.unlink()
        if there:
            sync_directory(folder)
