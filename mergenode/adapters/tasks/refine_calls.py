"""What a refinement asks of a plug-in: outputs for its probes, and the training; inside the plug-in's process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.adapters.engines.local.tensors import read_slice
from mergenode.adapters.tasks.failure import Failure
from mergenode.adapters.tasks.refining import Schedule, all_outputs, checked_outputs, probes_of, refine
from mergenode.adapters.tasks.round_calls import Host, write_like
from mergenode.adapters.tasks.side_car_file import write_tensors
from mergenode.adapters.tasks.sums_file import read_probe
from mergenode.errors import MergenodeError
from mergenode.maths.probe_sums import ProbeSums, sums_of


def _probe(host: Host, request: Mapping[str, Any]) -> dict[str, int] | None:
    """Write what a contribution adds to the sums; None when the plug-in knows no head for its name."""
    head = host.method("head")(request["name"])
    if head is None:
        return None
    if not isinstance(head, Tensor):
        raise Failure("invalid", f"head() returned {type(head).__name__}", "It has to return a tensor, or None.")
    model, _ = host.filled(Path(request["checkpoint"]))
    outputs = all_outputs(model, probes_of(host.method("probes")()), host.method("outputs"), host.told)
    try:
        sums = sums_of(outputs, head, request["weight"])
    except ValueError as error:
        raise Failure("invalid", f"head({request['name']!r}), outputs(): {error}", "Both are of one width.") from error
    write_tensors(Path(request["out"]), sums._asdict(), {"kind": "probe"})
    return {"inputs": len(outputs), "width": outputs.shape[1], "classes": len(head)}


def _refine(host: Host, request: Mapping[str, Any]) -> dict[str, float]:
    """Train and write. Tensors that lie as the base has them stay so: nobody moved them."""
    source = Path(request["checkpoint"])
    model, wanted = host.filled(source)
    moved = _moved(Path(request["base"]), source)
    tuned = [p for p in model.parameters() if wanted.get(id(p)) in moved and p.is_floating_point()]
    if not tuned:
        raise Failure("invalid", "the merge is the base: there is nothing to refine", "Merge contributions first.")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in tuned:
        parameter.requires_grad_(True)
    schedule = Schedule(epochs=request["epochs"], rate=request["rate"], seed=request["seed"])
    batches, sums = probes_of(host.method("probes")()), _read_sums(Path(request["sums"]))
    done = refine(model, tuned, batches, host.method("outputs"), sums, schedule, host.told)
    write_like(model, source, Path(request["out"]))
    return {"steps": done.steps, "before": done.before, "after": done.after}


REFINE_CALLS: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {"probe": _probe, "refine": _refine}


def _try_probes(host: Host, model: nn.Module) -> str:
    return f"{len(probes_of(host.method('probes')())):,} batches"


def _try_outputs(host: Host, model: nn.Module) -> str:
    first = probes_of(host.method("probes")())[0]
    with torch.no_grad():
        return (
            f"shape {list(checked_outputs(host.method('outputs')(model, first)).shape)} for the first batch of probes"
        )


def _try_head(host: Host, model: nn.Module) -> str:
    return "there; which contributions have one shows when they are named"


TRIED: Mapping[str, Callable[[Any, nn.Module], str]] = {
    "probes": _try_probes,
    "outputs": _try_outputs,
    "head": _try_head,
}
"""What came of calling a method once, in words."""


def _read_sums(path: Path) -> ProbeSums:
    try:
        return read_probe(path)
    except MergenodeError as error:
        raise Failure("checkpoint", error.message, error.hint) from error


def _moved(base: Path, merged: Path) -> frozenset[str]:
    """Names of tensors that differ. Raises Failure: ``checkpoint``."""
    found = set()
    with _opened(base) as left, _opened(merged) as right:
        for name, spec in right.specs.items():
            before = left.specs.get(name)
            if before is None or before.shape != spec.shape:
                raise Failure(
                    "checkpoint", f"{name!r} is not in the base as in the merge", "Name the merge's own base."
                )
            values = [read_slice(files, files.specs[name], 0, spec.numel)[0] for files in (left, right)]
            if not torch.equal(values[0].to(values[1].dtype), values[1]):
                found.add(name)
    return frozenset(found)


@contextmanager
def _opened(path: Path) -> Iterator[WeightFiles]:
    try:
        with open_weights(path, root=trusted_root(path)) as files:
            yield files
    except MergenodeError as error:
        raise Failure("checkpoint", error.message, error.hint) from error
