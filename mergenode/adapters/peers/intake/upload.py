"""One upload on disk: what was asked for, and the weights as they arrive.

    state/intake/<upload id>/   config.json ...       small files, complete from the start
                                .upload.json          the terms
                                .manifest  .journal   once the manifest was here and fits the base
                                model.safetensors     of final size from then on

Killed anywhere, what the journal says is on disk. No registry looks here.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from mergenode.adapters.checkpoints.adapter_config import read_adapter_config
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.durable import disk_errors, replace_file, write_all
from mergenode.adapters.peers.intake.intake_refusals import RefusedError
from mergenode.adapters.peers.intake.staging import StagedWeights, allocated_bytes
from mergenode.adapters.peers.intake.upload_blocks import UploadBlocks
from mergenode.adapters.peers.intake.upload_terms import Terms, invalid, terms_in
from mergenode.wire.journal import pack_journal
from mergenode.wire.limits import WireLimits
from mergenode.wire.manifest_reading import parse_manifest
from mergenode.wire.transfer import begin as begin_transfer

TERMS = ".upload.json"
MANIFEST = ".manifest"
JOURNAL = ".journal"
SPOOL = ".manifest.part"
LEFTOVERS = (TERMS, MANIFEST, JOURNAL, SPOOL)
"""What a finished push needs no more."""


class Upload:
    """Safe to use from several threads. Work on blocks goes between ``used`` and its end."""

    def __init__(self, folder: Path, terms: Terms, begun: float, touched: float) -> None:
        self.folder = folder
        self.terms = terms
        self.begun = begun
        self.touched = touched
        """When it last made progress, seconds since 1970."""
        self._lock = threading.RLock()
        self._users = 0
        self._blocks: UploadBlocks | None = None

    @classmethod
    def read(cls, folder: Path, now: float) -> Upload:
        """What an earlier life left. Raises OSError, KeyError, TypeError or ValueError when it is no upload."""
        document = json.loads((folder / TERMS).read_bytes())
        there = [folder / name for name in (JOURNAL, TERMS) if (folder / name).exists()]
        touched = max(path.stat().st_mtime for path in there)
        return cls(folder, terms_in(document), float(document["begun"]), min(touched, now))

    def store_terms(self, terms: Terms) -> None:
        """Durability: on disk on return."""
        with disk_errors(self.folder):
            replace_file(self.folder / TERMS, json.dumps(terms.document() | {"begun": self.begun}).encode())
        self.terms = terms

    @property
    def charge_name(self) -> str:
        """What it is called in the account of its pusher."""
        return f"{self.folder.name}-{self.begun}"

    @property
    def weights(self) -> Path:
        return self.folder / self.terms.weights_name

    @property
    def prepared(self) -> bool:
        """The manifest is here and fits."""
        return (self.folder / JOURNAL).exists()

    @property
    def in_use(self) -> bool:
        return self._users > 0

    def room_outstanding(self) -> int:
        """Bytes of the disk that it may still take."""
        return max(0, self.terms.weight_bytes + self.terms.manifest_bytes - allocated_bytes(self.weights))

    def enter(self) -> None:
        """From now on manifest and descriptor are kept."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """What was taken is synced when the last user leaves."""
        with self._lock:
            self._users -= 1
            if not self._users and self._blocks is not None:
                blocks, self._blocks = self._blocks, None
                blocks.close()

    @contextmanager
    def used(self) -> Iterator[None]:
        """Work on blocks goes in here, in the thread that does it: nothing is closed under it."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def blocks(self) -> UploadBlocks:
        """Inside ``used``. Raises RefusedError when there is no manifest yet, TransientError when the disk fails."""
        with self._lock:
            if self._blocks is None:
                if not self.prepared:
                    message = "the manifest is not here yet"
                    raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, message, hint="Call Missing with it first.")
                with disk_errors(self.folder):
                    manifest = parse_manifest((self.folder / MANIFEST).read_bytes(), self.terms.root)
                self._blocks = UploadBlocks(self.folder / JOURNAL, manifest, StagedWeights(self.weights, manifest))
            return self._blocks

    def spool(self, offset: int, data: bytes) -> None:
        """A part of the manifest; the caller checks that parts follow each other and end where they should."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if offset == 0 else 0)
        with disk_errors(self.folder):
            fd = os.open(self.folder / SPOOL, flags, 0o644)
            try:
                write_all(fd, data, offset)
            finally:
                os.close(fd)

    def prepare(self, limits: WireLimits, check: Callable[[Path], None]) -> None:
        """Take the spooled manifest: make the file, hold it against the base with ``check``, take its room.

        Durability: on return the upload is resumable. Idempotence: nothing happens when it was done before.
        Raises RejectedError (the manifest), RefusedError (``check``, or another size than declared), TransientError.
        """
        with self._lock:
            if self.prepared:
                return
            with disk_errors(self.folder):
                data = (self.folder / SPOOL).read_bytes()
            manifest = parse_manifest(data, self.terms.root, limits)
            if manifest.total_bytes != self.terms.weight_bytes:
                raise invalid(f"the manifest has {manifest.total_bytes} bytes, {self.terms.weight_bytes} were declared")
            staged = StagedWeights(self.weights, manifest)
            try:
                staged.create()
                check(self.folder)
                staged.allocate()
                staged.sync()
            finally:
                staged.close()
            with disk_errors(self.folder):
                replace_file(self.folder / MANIFEST, data)
                replace_file(self.folder / JOURNAL, pack_journal(begin_transfer(manifest).journal))
                (self.folder / SPOOL).unlink(missing_ok=True)

    def adapter_settings(self, limits: Limits) -> bytes:
        """The settings that belong to the content of an adapter. Raises RejectedError."""
        if not self.terms.adapter_config:
            return b""
        return read_adapter_config(self.folder, root=self.folder, limits=limits).canonical
