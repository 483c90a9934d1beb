"""A checkpoint as a plug-in loads it: with every weight of the model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.checkpoints.weights import open_weights
from mergenode.adapters.engines.local.engine import Resources
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.bootstrap.one_shot import MergeRequest, merge_once
from mergenode.errors import UsageError


@contextmanager
def full_weights(checkpoint: Path, base: Path | None, memory_limit: int) -> Iterator[Path]:
    """The checkpoint itself, or an adapter added to ``base`` in a directory that goes again.

    Raises UsageError: an adapter without base; RejectedError, TransientError, FatalError: as ``merge_once``.
    """
    with open_weights(checkpoint, root=trusted_root(checkpoint)) as files:
        is_adapter = files.adapter
    if not is_adapter:
        yield checkpoint
        return
    if base is None:
        raise UsageError(f"{checkpoint}: is an adapter, a model needs its base, too", hint="Name it with --base DIR.")
    with tempfile.TemporaryDirectory(prefix="mergenode-") as folder:
        merged = MergeRequest(
            base=base,
            output=Path(folder) / "model",
            models=[(checkpoint, 1.0)],
            method="average",
            options={},
            dtype=None,
            resources=Resources(memory_limit=memory_limit),
            max_relative_norm=float("inf"),
        )
        merge_once(merged, FanOut([]))
        yield merged.output
