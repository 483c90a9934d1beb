"""Files that this node offers: kept alive by second names, and described."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.wire.blocks import Root
from mergenode.wire.describing import describe
from mergenode.wire.manifest import Manifest

_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)


def keep_alive(names: Mapping[Path, Path]) -> None:
    """Make every key a second name of its file, or a copy where that cannot be.

    Durability: contents are synced, names are not. OSError: a file is gone, or the disk is full.
    """
    for target, file in names.items():
        real = os.path.realpath(file)
        try:
            os.link(real, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copyfile(real, target)
        fd = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def describe_files(files: Sequence[Path], base_root: Root | None) -> Manifest:
    """The manifest of the tensors of all ``files`` together, in one pass.

    Raises:
        RejectedError, TransientError: as ``open_weights``; also when a file changed meanwhile.
        ValueError: a tensor is there twice.
    """
    with ExitStack() as stack:
        places: dict[str, WeightFiles] = {}
        opened = [stack.enter_context(open_weights(file)) for file in files]
        for weights in opened:
            twice = sorted(places.keys() & weights.specs.keys())
            if twice:
                raise ValueError(f"{weights.path.name}: tensor {twice[0]!r} is in another of the offered files too")
            places |= dict.fromkeys(weights.specs, weights)

        def read_into(name: str, offset: int, buffer: memoryview) -> None:
            places[name].read_into(name, offset, buffer)

        manifest = describe((weights.specs[name] for name, weights in places.items()), read_into, base_root)
        for weights in opened:
            weights.assert_unchanged()
    return manifest
