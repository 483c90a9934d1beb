"""What a selection asks of a plug-in: the loss over the calibration batches, its gradient, and each batch by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from copy import copy
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from mergenode.adapters.tasks.failure import Failure
from mergenode.adapters.tasks.gradients import mean_gradient, scalar_loss
from mergenode.adapters.tasks.round_calls import Host
from mergenode.adapters.tasks.segments import open_segment
from mergenode.adapters.tasks.side_car_file import write_tensors
from mergenode.ports.task import MOST_SAMPLES


def _gradient(host: Host, request: Mapping[str, Any]) -> float:
    """Write the gradient; the mean loss."""
    loss, batches = host.method("loss"), host.method("calibration_batches")
    model, wanted = host.filled(Path(request["checkpoint"]))
    found, mean, number = mean_gradient(model, wanted, host.counted(batches(), request["batches"]), loss)
    write_tensors(Path(request["out"]), found, {"kind": "gradient", "batches": str(number)})
    return mean


def _segment(host: Host, request: Mapping[str, Any]) -> list[float | None]:
    """Mean loss at every point; None where it is not finite. All points see the same batches."""
    loss = host.method("loss")
    batches = list(host.counted(host.method("calibration_batches")(), request["batches"]))
    if not batches:
        raise Failure("invalid", "calibration_batches() yields nothing", "It has to yield at least one batch.")
    model = host.built()
    found: list[float] = []
    with open_segment(model, Path(request["start"]), Path(request["end"])) as fill, torch.no_grad():
        for gamma in request["gammas"]:
            fill(gamma)
            each = [float(scalar_loss(loss(model, _again(batch)))) for batch in batches]
            found.append(sum(each) / len(each))
    if not any(map(isfinite, found)):
        raise Failure("invalid", f"loss() returned {found[0]}", "It has to be finite.")
    return [mean if isfinite(mean) else None for mean in found]


def _by_batch(host: Host, request: Mapping[str, Any]) -> list[float | None]:
    """The loss of every batch by itself; None where it is not finite, also where it is finite nowhere."""
    loss, batches = host.method("loss"), host.method("calibration_batches")
    model, _ = host.filled(Path(request["checkpoint"]))
    found: list[float] = []
    with torch.no_grad():
        for batch in host.counted(batches(), request["batches"]):
            if len(found) == MOST_SAMPLES:
                raise Failure(
                    "invalid", f"calibration_batches() yields more than {MOST_SAMPLES} batches",
                    "Make them larger, or lower selector.batches.",
                )  # fmt: skip
            found.append(float(scalar_loss(loss(model, batch))))
    if not found:
        raise Failure("invalid", "calibration_batches() yields nothing", "It has to yield at least one batch.")
    return [value if isfinite(value) else None for value in found]


OBJECTIVE_CALLS: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "gradient": _gradient,
    "segment": _segment,
    "by_batch": _by_batch,
}


def _again(batch: Any) -> Any:
    """A batch that comes again later: ``loss`` may take the labels out of it."""
    return copy(batch) if isinstance(batch, MutableMapping | list) else batch
