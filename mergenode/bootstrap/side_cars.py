"""``mergenode sidecar``, composed: what the data behind a checkpoint says about its weights, written beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mergenode.adapters.checkpoints.side_car_names import KINDS
from mergenode.adapters.registries.marker import marker_path
from mergenode.adapters.tasks.side_car_file import publish_side_car
from mergenode.adapters.tasks.worker import TaskWorker
from mergenode.bootstrap.full_weights import full_weights
from mergenode.errors import UsageError
from mergenode.ports.task import TaskOptions

KindProgress = Callable[[str, int, int], None]
"""Told (kind, batches done, batches in all or 0)."""

_NEEDS: Mapping[str, frozenset[str]] = {
    "gram": frozenset({"build_model", "calibration_batches"}),
    "fisher": frozenset({"build_model", "calibration_batches", "loss"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SideCarRequest:
    """``kinds``: of ``gram`` and ``fisher``; empty: all that the plug-in can make. ``base``: for an adapter."""

    checkpoint: Path
    task: TaskOptions
    kinds: Sequence[str] = ()
    batches: int | None = None
    base: Path | None = None


@dataclass(frozen=True, slots=True)
class MadeSideCar:
    """A side-car in its place. ``counts``: tensors, batches, rows, examples, as far as they are known."""

    kind: str
    path: Path
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SideCarResult:
    made: tuple[MadeSideCar, ...]
    stale_marker: Path | None
    """A commit marker from before, which does not promise the new files."""


def make_side_cars(request: SideCarRequest, progress: KindProgress) -> SideCarResult:
    """Compute and write side-cars, one after the other. What was written before a failure stays: it is whole.

    Raises:
        UsageError: the plug-in has not what a kind needs, or an adapter comes without base.
        RejectedError, TransientError, FatalError: as ``TaskWorker`` and ``open_weights``.
    """
    made = []
    with (
        TaskWorker(request.task) as worker,
        full_weights(request.checkpoint, request.base, request.task.memory_limit) as loaded,
    ):
        for kind in _kinds(request, worker.methods()):
            write = worker.gram if kind == "gram" else worker.fisher

            def write_to(
                out: Path, write: Callable[..., Mapping[str, int]] = write, kind: str = kind
            ) -> Mapping[str, int]:
                def told(done: int, total: int) -> None:
                    progress(kind, done, total)

                return write(loaded, out, batches=request.batches, progress=told)

            place, counts = publish_side_car(request.checkpoint, kind, write_to)
            made.append(MadeSideCar(kind, place, counts))
    marker = marker_path(request.checkpoint)
    return SideCarResult(tuple(made), marker if marker.exists() else None)


def _kinds(request: SideCarRequest, offered: frozenset[str]) -> tuple[str, ...]:
    """The kinds to make. Raises UsageError when the plug-in cannot make one that was asked for, or any."""
    possible = tuple(kind for kind in KINDS if _NEEDS[kind] <= offered)
    for kind in request.kinds or (() if possible else ("gram",)):
        if kind not in possible:
            missing = ", ".join(f"{name}()" for name in sorted(_NEEDS[kind] - offered))
            raise UsageError(
                f"the task plug-in {request.task.entrypoint} cannot make a {kind}: it lacks {missing}",
                hint="docs/tasks.md says what each method is for.",
            )
    return tuple(request.kinds) or possible
