"""Versions as directories: staged under a hidden name, renamed into place whole, ``latest`` moved last."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from mergenode.adapters.checkpoints.side_files import side_files
from mergenode.adapters.durable import (
    disk_errors,
    free_bytes,
    point_symlink,
    remove_tree,
    rename_directory,
    sync_directory,
    tree_bytes,
)
from mergenode.errors import FatalError
from mergenode.types import Digest

MANIFEST = "mergenode.json"
CARD = "README.md"
LATEST = "latest"

_DTYPE_NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64"}


@dataclass(frozen=True, slots=True)
class FolderPublisher:
    """Implements ports.publisher.Publisher in a directory that readers share."""

    root: Path
    base: Path

    def folder(self, version: int) -> Path:
        return self.root / f"v{version:06d}"

    def stage(self, version: int) -> str:
        staging = self._staging(version)
        self._refuse_foreign(version)
        with disk_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            remove_tree(staging)
            staging.mkdir()
        return str(staging)

    def _refuse_foreign(self, version: int) -> None:
        target = self.folder(version)
        if target.exists() or target.is_symlink():
            raise FatalError(
                f"{target}: already there, and not made by this node's ledger",
                hint="Point publish.path at a directory of its own, or move that version away.",
            )

    def holds(self, version: int) -> bool:
        return (self.folder(version) / MANIFEST).is_file()

    def visible(self, version: int) -> Mapping[str, Any] | None:
        try:
            manifest = json.loads((self.folder(version) / MANIFEST).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:
            return {}
        return manifest if isinstance(manifest, dict) else {}

    def publish(self, version: int, manifest: Mapping[str, Any], content: bytes, card: str) -> None:
        staging, target = self._staging(version), self.folder(version)
        self._refuse_foreign(version)
        with disk_errors(self.root):
            complete_version(staging, self.base, manifest, card, content)
            rename_directory(staging, target)

    def digest(self, version: int) -> Digest:
        """Digest of the manifest of a version in place."""
        return Digest(f"blake3:{blake3((self.folder(version) / MANIFEST).read_bytes()).hexdigest()}")

    def path(self, version: int) -> str:
        return str(self.folder(version))

    def point_latest(self, version: int) -> None:
        latest = self.root / LATEST
        if latest.exists() and not latest.is_symlink():
            raise FatalError(
                f"{latest} is not a link to the newest version, as this node left it there",
                hint="A copy that follows links makes a directory of it: move it away, the node makes the link again.",
            )
        with disk_errors(self.root):
            point_symlink(latest, self.folder(version).name)

    def prune(self, keep: int) -> Sequence[int]:
        latest = self._latest()
        # Numbers are given without gaps, so what lies above ``latest`` is not this node's.
        versions = sorted(version for version in self._versions() if latest is None or version <= latest)
        doomed = [version for version in versions[: max(0, len(versions) - keep)] if version != latest]
        with disk_errors(self.root):
            for version in doomed:
                remove_tree(self.folder(version))
            for stray in (*self.root.glob(".v*.removing"), *self.root.glob(".v*.staging")):
                remove_tree(stray)
        return doomed

    def sizes(self) -> tuple[int, int]:
        with disk_errors(self.root):
            return tree_bytes(self.root), free_bytes(self.root)

    def _staging(self, version: int) -> Path:
        return self.root / f".v{version:06d}.staging"

    def _versions(self) -> list[int]:
        names = [path.name for path in self.root.iterdir()] if self.root.is_dir() else []
        return [number for name in names if (number := self._number(name)) is not None]

    def _latest(self) -> int | None:
        try:
            return self._number(os.readlink(self.root / LATEST))
        except OSError:
            return None

    def _number(self, name: str) -> int | None:
        """The version of this folder name; None for every name that ``folder`` does not give."""
        digits = name[1:]
        number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None
        return number if number is not None and self.folder(number).name == name else None


def complete_version(staging: Path, base: Path, manifest: Mapping[str, Any], card: str, content: bytes) -> None:
    """Add what is not weights: the base's side files, the card, the manifest. Everything is synced on return."""
    for source in side_files(base):
        target = staging / source.relative_to(base)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.name == "config.json":
            target.write_bytes(config_for(source.read_bytes(), manifest.get("dtype")))
        else:
            shutil.copyfile(source, target)
    (staging / CARD).write_text(card, encoding="utf-8")
    (staging / MANIFEST).write_bytes(content)
    for directory, _, names in os.walk(staging):
        for name in names:
            fd = os.open(Path(directory) / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        sync_directory(directory)


def config_for(content: bytes, dtype: object) -> bytes:
    """The base's config.json, its declared type following ``publish.dtype``: loaders believe it."""
    if not isinstance(dtype, str) or dtype not in _DTYPE_NAMES:
        return content
    try:
        config = json.loads(content)
    except ValueError:
        return content
    if not isinstance(config, dict):
        return content
    for key in ("torch_dtype", "dtype"):
        if key in config:
            config[key] = _DTYPE_NAMES[dtype]
    return json.dumps(config, indent=2).encode() + b"\n"
