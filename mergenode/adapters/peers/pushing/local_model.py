"""A checkpoint or adapter on this machine, described block by block so that it can be pushed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from mergenode.adapters.checkpoints.layout import ADAPTER_CONFIG
from mergenode.adapters.checkpoints.regular_file import read_small, trusted_root
from mergenode.adapters.checkpoints.side_car_names import is_side_car
from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.adapters.peers.intake.upload_terms import SMALL_FILES, SMALL_FILES_BYTES
from mergenode.errors import RejectedError, RejectReason, TransientError, TransientReason
from mergenode.wire.blocks import block_id
from mergenode.wire.describing import describe
from mergenode.wire.manifest import BlockPlace, Manifest

_FIRST = (ADAPTER_CONFIG, "config.json")
_HINT = "Push a Hugging Face directory, a bare .safetensors file or a PEFT adapter directory."

Progress = Callable[[int, int], None]
"""Bytes done, bytes in all."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """Open files and their manifest; close it, or use it in ``with``. ``notes``: what stays behind, for people."""

    weights: WeightFiles
    manifest: Manifest
    files: Mapping[str, bytes]
    notes: tuple[str, ...]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.weights.close()

    def read(self, place: BlockPlace) -> bytes:
        """The bytes of a block. Raises TransientError (CHANGED_WHILE_READING) when they are others than before."""
        buffer = bytearray(place.length)
        name = place.tensor.spec.name
        self.weights.read_into(name, place.first_byte, memoryview(buffer))
        block = bytes(buffer)
        if block_id(block) != place.id:
            raise TransientError(
                TransientReason.CHANGED_WHILE_READING,
                f"{self.weights.path}: tensor {name!r} changed while it was pushed",
                hint="Push the checkpoint once nothing writes to it any more.",
            )
        return block


def describe_model(path: Path, progress: Progress = lambda done, total: None) -> LocalModel:
    """Read a checkpoint once and say what it is, in one buffer of 8 MiB.

    Raises:
        RejectedError: what a node would refuse anyway: no safetensors, NaN or infinities, too large settings.
        TransientError: it could not be read, or changed meanwhile.
    """
    root = trusted_root(path)
    weights = open_weights(path, root=root)
    complete = False
    try:
        files, notes = _small_files(path, root, weights)
        total, done = sum(spec.nbytes for spec in weights.specs.values()), 0

        def read_into(name: str, offset: int, buffer: memoryview) -> None:
            nonlocal done
            weights.read_into(name, offset, buffer)
            done += buffer.nbytes
            progress(done, total)

        manifest = describe(weights.specs.values(), read_into)
        weights.assert_unchanged()
        _check(path, weights, manifest)
        complete = True
        return LocalModel(weights, manifest, files, tuple(notes))
    finally:
        if not complete:
            weights.close()


def _check(path: Path, weights: WeightFiles, manifest: Manifest) -> None:
    """Refuse here what would travel for nothing."""
    for entry in manifest.tensors:
        if not entry.figures.finite:
            where = f"{weights.file_of(entry.spec.name)}: tensor {entry.spec.name!r}"
            raise RejectedError(
                RejectReason.NOT_FINITE,
                f"{where}: has NaN or infinite values",
                hint="The run diverged: push an earlier checkpoint of it.",
            )
    if not manifest.block_count:
        raise RejectedError(RejectReason.NO_WEIGHTS, f"{path}: has no values at all", hint=_HINT)


def _small_files(path: Path, root: Path, weights: WeightFiles) -> tuple[dict[str, bytes], list[str]]:
    """The files that go along, and notes about what does not."""
    if not path.is_dir():
        return {}, []
    there = sorted(os.listdir(path))
    notes = [f"{name} is a side-car and is not pushed" for name in there if is_side_car(name)]
    notes += [f"{name} is not part of the checkpoint and is not pushed" for name in weights.ignored]
    kept: dict[str, bytes] = {}
    room = SMALL_FILES_BYTES
    wanted = [name for name in there if name in SMALL_FILES]
    for name in sorted(wanted, key=lambda name: (name not in _FIRST, name)):
        if (path / name).stat().st_size > room:
            if name == ADAPTER_CONFIG:
                raise RejectedError(
                    RejectReason.ADAPTER_CONFIG_INVALID,
                    f"{path.name}/{name}: has more than {SMALL_FILES_BYTES} bytes",
                    hint="Shorten its patterns; a push carries 64 KiB of settings.",
                )
            continue
        content = read_small(
            path / name, root=root, shown=f"{path.name}/{name}", max_bytes=room, too_large=RejectReason.CONFIG_INVALID
        )
        kept[name] = content
        room -= len(kept[name])
    return kept, notes
