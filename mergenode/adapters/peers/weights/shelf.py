"""The shelf: weights by content, a node's own and those of others, immutable, complete or absent.

shelf/<root>/manifest                  canonical bytes
shelf/<root>/weights.safetensors       one file; of models of this node hard links to its own files
shelf/.<root>.fetching/                a transfer under way, with its journal
shelf/.<number>.putting                an offer being made; leftovers go at the next start
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mergenode.adapters.checkpoints.regular_file import read_small
from mergenode.adapters.durable import disk_errors, free_bytes, remove_tree, replace_file, sync_directory
from mergenode.adapters.peers.weights.journal_file import JOURNAL
from mergenode.adapters.peers.weights.offered_files import describe_files, keep_alive
from mergenode.adapters.peers.weights.shelf_files import MANIFEST, PART, WHOLE, FileIdentity, open_entry, weight_names
from mergenode.adapters.peers.weights.shelf_reader import ShelfReader
from mergenode.adapters.peers.weights.transfer_observer import TransferObserver, Unobserved
from mergenode.errors import MergenodeError, RejectReason, TransientError, TransientReason
from mergenode.wire.blocks import ID_BYTES, BlockId, Root
from mergenode.wire.limits import DEFAULT_WIRE_LIMITS
from mergenode.wire.manifest import Manifest
from mergenode.wire.manifest_reading import parse_manifest

LEASE_SECONDS = 600.0
"""How long an entry stays after somebody last read from it."""
_NEW_SECONDS = 60.0
"""How long an entry stays before anybody says that it is needed."""
_HEX = 2 * ID_BYTES
FETCHING = ".fetching"


@dataclass(slots=True)
class Held:
    """One entry. ``verified``: blocks (bit i) whose bytes this process hashed while the files were ``identities``."""

    manifest: Manifest
    leased_until: float = 0.0
    verified: int = 0
    identities: tuple[FileIdentity, ...] = ()
    served: dict[str, int] = field(default_factory=dict)
    """Blocks that were sent to each caller: what somebody asks for twice is hashed before it is sent again."""


@dataclass(frozen=True, slots=True)
class ShelfLimits:
    """``total_bytes``: of weights, None: no bound; ``min_free``: bytes of the disk that transfers leave alone."""

    total_bytes: int | None = None
    min_free: int = 256 << 20


class Shelf:
    """All methods are safe from several threads; none holds a lock while weights are read or written."""

    def __init__(
        self,
        folder: Path,
        monotonic: Callable[[], float],
        limits: ShelfLimits = ShelfLimits(),
        observer: TransferObserver | None = None,
    ) -> None:
        """Opens or makes the shelf in ``folder``, which is this process's alone; what was not finished is removed,
        transfers are kept. ``monotonic``: seconds, for leases."""
        self.folder, self.limits = folder, limits
        self._monotonic, self._observer = monotonic, observer or Unobserved()
        self._lock = threading.RLock()
        self._puts = 0
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._held = dict(self._found())
        self._tell()

    def put(self, files: Sequence[Path], base_root: Root | None = None) -> Manifest:
        """Describe a model of this node and keep its files alive by links of its own (copies on another file system).

        Durability: the entry is on disk on return; the files may then be removed, never written to. Idempotence: the
        same weights are one entry.

        Raises:
            RejectedError: no safetensors files, or damaged ones.
            ValueError: a tensor is there twice.
            TransientError: the disk is full or failing; nothing was put.
        """
        with self._lock:
            self._puts += 1
            staging = self.folder / f".{self._puts}.putting"
        try:
            with disk_errors(self.folder):
                remove_tree(staging)
                staging.mkdir()
                names = [WHOLE] if len(files) == 1 else [PART.format(number) for number in range(len(files))]
                keep_alive({staging / name: file for name, file in zip(names, files, strict=True)})
                manifest = describe_files([staging / name for name in names], base_root)
                replace_file(staging / MANIFEST, manifest.packed)
                self._install(staging, manifest)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return manifest

    def open(self, root: Root) -> ShelfReader | None:
        """A reader of the entry, which stays on the shelf for ``LEASE_SECONDS`` after every read. None: not here."""
        with self._lock:
            held = self._held.get(root)
            if held is None:
                return None
            self.lease(root)
        try:
            files = open_entry(self.path(root), held.manifest)
        except (OSError, MergenodeError) as error:
            self._fault(root, error)
            return None
        with self._lock:
            if held.identities != files.identities:
                held.verified, held.identities = 0, files.identities
        return ShelfReader(self, root, held.manifest, files)

    def lease(self, root: Root, seconds: float = LEASE_SECONDS) -> None:
        """Keep an entry for that long, whatever ``retain`` is told."""
        with self._lock:
            held = self._held.get(root)
            if held is not None:
                held.leased_until = max(held.leased_until, self._monotonic() + seconds)

    def manifests(self) -> Mapping[Root, Manifest]:
        """Everything that is here."""
        with self._lock:
            return {root: held.manifest for root, held in self._held.items()}

    def whole(self, root: Root) -> Path | None:
        """The one safetensors file of an entry. None: not here, or in several files (a transfer makes it one)."""
        with self._lock:
            path = self.path(root) / WHOLE
            return path if root in self._held and path.exists() else None

    def retain(self, roots: Collection[Root]) -> int:
        """Remove what is neither in ``roots`` nor leased; bytes of weights that went."""
        now, gone = self._monotonic(), 0
        with self._lock:
            for root in [root for root, held in self._held.items() if root not in roots and held.leased_until <= now]:
                gone += self._held[root].manifest.total_bytes
                self.drop(root)
        if gone:
            self._observer.removed(gone)
        return gone

    def drop(self, root: Root) -> None:
        """Remove an entry. Who reads it goes on reading: the files are open."""
        with self._lock:
            if self._held.pop(root, None) is not None:
                with disk_errors(self.folder):
                    remove_tree(self.path(root))
        self._tell()

    def path(self, root: Root) -> Path:
        """The folder of an entry."""
        return self.folder / root.hex()

    # transfers

    def staging(self, root: Root) -> Path:
        """The folder of a transfer. It may not be there."""
        return self.folder / f".{root.hex()}{FETCHING}"

    def stagings(self) -> list[Root]:
        """Transfers that were begun."""
        names = [name for name in os.listdir(self.folder) if name.endswith(FETCHING)]
        return [Root(bytes.fromhex(name[1 : 1 + _HEX])) for name in names if _is_root(name[1 : 1 + _HEX])]

    def drop_staging(self, root: Root) -> None:
        """Give up a transfer."""
        with disk_errors(self.folder):
            remove_tree(self.staging(root))

    def check_room(self, nbytes: int, already: int = 0) -> None:
        """Whether a model of ``nbytes`` may come, ``already`` bytes of which are allocated.

        Raises:
            TransientError: DISK_FULL; the disk, or the bound of the shelf.
        """
        with self._lock:
            held = sum(entry.manifest.total_bytes for entry in self._held.values())
        bound = self.limits.total_bytes
        if bound is not None and held + nbytes > bound:
            raise _full(f"{held} bytes are held, {nbytes} more would pass the bound of {bound}")
        free = free_bytes(self.folder)
        if free - (nbytes - already) < self.limits.min_free:
            raise _full(f"{nbytes - already} bytes are needed, {free} are free, {self.limits.min_free} stay so")

    def adopt(self, root: Root, manifest: Manifest) -> None:
        """Make a finished transfer an entry. All its blocks were hashed by this process.

        Durability: the entry is on disk on return, complete or absent after a crash at any moment.
        """
        with disk_errors(self.folder):
            self._install(self.staging(root), manifest)
            (self.path(root) / JOURNAL).unlink(missing_ok=True)

    # for readers

    def is_verified(self, root: Root, index: int, caller: str | None) -> bool:
        """Whether this block need not be hashed before ``caller`` gets it."""
        with self._lock:
            held = self._held.get(root)
            if held is None:
                return False
            bit, before = 1 << index, held.served.get(caller, 0) if caller is not None else 0
            if caller is not None and (caller in held.served or len(held.served) < _MOST_CALLERS):
                held.served[caller] = before | bit
            self.lease(root)
            return bool(held.verified & bit) and not before & bit

    def note_verified(self, root: Root, index: int, identities: tuple[FileIdentity, ...]) -> None:
        """The bytes of a block were hashed and are right."""
        with self._lock:
            held = self._held.get(root)
            if held is not None and held.identities == identities:
                held.verified |= 1 << index

    def damaged(self, root: Root, fault: str) -> None:
        """An entry is not what it should be: it goes, and is reported."""
        self.drop(root)
        self._observer.damaged(root, fault)

    def _install(self, staging: Path, manifest: Manifest) -> None:
        """Files first, then the name; a second file for an entry that is there only replaces its parts."""
        root, names = manifest.root, weight_names(staging)
        sync_directory(staging)
        with self._lock:
            target, known = self.path(root), root in self._held
            if not known:
                remove_tree(target)
                os.rename(staging, target)
                sync_directory(self.folder)
            elif names == [WHOLE] and not (target / WHOLE).exists():
                parts = weight_names(target)
                os.rename(staging / WHOLE, target / WHOLE)
                sync_directory(target)
                for name in parts:
                    (target / name).unlink()
            held = self._held.setdefault(root, Held(manifest))
            if not known:
                with open_entry(target, manifest) as files:
                    held.verified, held.identities = (1 << manifest.block_count) - 1, files.identities
            self.lease(root, _NEW_SECONDS)
        remove_tree(staging)
        self._tell()

    def _fault(self, root: Root, error: Exception) -> None:
        if isinstance(error, TransientError) and error.reason is TransientReason.READ_FAILED:
            raise error
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise TransientError(TransientReason.READ_FAILED, f"shelf: {root.hex()[:12]}: {error}") from error
        self.damaged(root, str(error))

    def _found(self) -> Iterator[tuple[Root, Held]]:
        """Entries of an earlier life; what was left half made is removed. Weights are looked at when they are used."""
        for name in sorted(os.listdir(self.folder)):
            if name.startswith("."):
                if not (name.endswith(FETCHING) and _is_root(name[1 : 1 + _HEX])):
                    remove_tree(self.folder / name)
            elif _is_root(name):
                root = Root(bytes.fromhex(name))
                try:
                    yield root, Held(read_manifest(self.folder / name, root))
                except MergenodeError as error:
                    self._observer.damaged(root, error.message)
                    remove_tree(self.folder / name)

    def _tell(self) -> None:
        with self._lock:
            manifests = [held.manifest for held in self._held.values()]
        self._observer.shelf(sum(item.total_bytes for item in manifests), sum(item.block_count for item in manifests))


_MOST_CALLERS = 64
"""Callers whose questions are remembered per entry: as many as there are labels for them."""


def read_manifest(folder: Path, root: Root) -> Manifest:
    """The manifest in a folder of the shelf. RejectedError: it is not that of ``root``. TransientError: not there."""
    data = read_small(
        folder / MANIFEST,
        root=folder,
        shown=f"shelf: {root.hex()[:12]}/{MANIFEST}",
        max_bytes=DEFAULT_WIRE_LIMITS.manifest_bytes,
        too_large=RejectReason.HEADER_TOO_LARGE,
    )
    return parse_manifest(data, root)


def held_places(manifests: Mapping[Root, Manifest]) -> dict[BlockId, tuple[Root, int]]:
    """Where a block lies among models that are here: one place for each id."""
    return {place.id: (root, place.index) for root, manifest in manifests.items() for place in manifest.places()}


def _is_root(name: str) -> bool:
    return len(name) == _HEX and all(letter in "0123456789abcdef" for letter in name)


def _full(fault: str) -> TransientError:
    hint = "Free space, or raise the bound; the transfer goes on where it stopped."
    return TransientError(TransientReason.DISK_FULL, f"shelf: {fault}", hint=hint)
