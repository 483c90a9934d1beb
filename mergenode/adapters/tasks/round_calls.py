"""What a round asks of a plug-in: training, matching, BatchNorm statistics, losses; inside the plug-in's process."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite, sqrt
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mergenode.adapters.checkpoints.weights import open_weights
from mergenode.adapters.engines.local.mixing import write_model
from mergenode.adapters.engines.local.tensors import read_slice
from mergenode.adapters.tasks.failure import Failure
from mergenode.adapters.tasks.returned_numbers import numbers
from mergenode.errors import MergenodeError, UsageError
from mergenode.mixers.activation_matching import match_activations
from mergenode.mixers.graph import derive
from mergenode.mixers.mix import reestimate_batch_norm
from mergenode.mixers.symmetry import Permutations, State, Symmetry
from mergenode.mixers.weight_matching import match_weights
from mergenode.types import TensorSpec

GROWN = 10.0
"""Norm of a trained model relative to that before, from which on the training diverged."""


class Host(Protocol):
    """The part of ``Calls`` that these requests use."""

    symmetry: Symmetry | None

    def method(self, name: str) -> Callable[..., Any]: ...
    def offers(self, name: str) -> bool: ...
    def built(self) -> nn.Module: ...
    def filled(self, checkpoint: Path) -> tuple[nn.Module, Mapping[int, str]]: ...
    def counted(self, given: object, most: int | None) -> Iterator[Any]: ...
    def told(self, done: int, total: int) -> None: ...
    def run_through(self, model: nn.Module) -> Callable[[Any], object]: ...


def _train(host: Host, request: Mapping[str, Any]) -> dict[str, float]:
    """Train and write. Raises Failure ``invalid`` when what comes out is no model."""
    train = host.method("train")
    source = Path(request["checkpoint"])
    model, _ = host.filled(source)
    before = _norm(model)
    model.train()
    returned = train(model, request["round"])
    metrics = {} if returned is None or returned == {} else numbers(returned, "train()")
    model.zero_grad(set_to_none=True)
    after = _norm(model)
    if not isfinite(after):
        raise Failure("invalid", "train() left weights that are not finite", "The training diverged: look at train().")
    if before > 0 and after > GROWN * before:
        what = f"train() left weights {after / before:.3g} times as large as before"
        raise Failure("invalid", what, "The training diverged: look at train().")
    write_like(model, source, Path(request["out"]))
    return metrics


def _align(host: Host, request: Mapping[str, Any]) -> dict[str, str]:
    """Write the others with their units in our order; what cannot be matched is told by name, with the reason."""
    own = Path(request["checkpoint"])
    specs, tensors = _read(own)
    batches = _inputs(host, request["batches"])
    symmetry = _symmetry(host, batches)
    ours = _whole(host.built(), tensors)
    others = {name: _whole(host.built(), _read(Path(place))[1]) for name, place in sorted(request["others"].items())}
    found, refused = _matched(symmetry, ours, others, batches, request["matching"])
    for name, permutations in found.items():
        write_model(Path(request["outs"][name]), specs, symmetry.permuted(others[name], permutations))
    return refused


def _matched(
    symmetry: Symmetry, ours: State, others: Mapping[str, State], batches: Sequence[tuple[Tensor, ...]], matching: str
) -> tuple[dict[str, Permutations], dict[str, str]]:
    """Permutations by name, and why there are none. Each is matched to ours alone, whoever else takes part."""
    if not others:
        return {}, {}
    try:
        return dict(zip(others, _match(symmetry, ours, list(others.values()), batches, matching), strict=True)), {}
    except ValueError as error:  # activations that are not finite: whose they are shows alone
        if len(others) == 1:
            return {}, {name: str(error) for name in others}
    found: dict[str, Permutations] = {}
    refused: dict[str, str] = {}
    for name, state in others.items():
        one, why = _matched(symmetry, ours, {name: state}, batches, matching)
        found |= one
        refused |= why
    return found, refused


def _match(
    symmetry: Symmetry, ours: State, others: Sequence[State], batches: Sequence[tuple[Tensor, ...]], matching: str
) -> Sequence[Permutations]:
    if matching == "weights":
        return [match_weights(symmetry, ours, other) for other in others]
    return match_activations(symmetry, ours, others, batches)


def _recalibrate(host: Host, request: Mapping[str, Any]) -> int:
    """BatchNorm statistics anew; nothing is written when there are no such layers."""
    source = Path(request["checkpoint"])
    model, _ = host.filled(source)
    run = host.run_through(model)
    batches = host.counted(host.method("calibration_batches")(), request["batches"])
    seen = reestimate_batch_norm(model, batches, lambda _, batch: run(batch))
    if seen:
        write_like(model, source, Path(request["out"]))
    return seen


def _losses(host: Host, request: Mapping[str, Any]) -> list[float | None]:
    """Mean loss of each model; None where it is not finite."""
    loss, batches = host.method("loss"), host.method("calibration_batches")
    found: list[float | None] = []
    for place in request["checkpoints"]:
        model, _ = host.filled(Path(place))
        with torch.no_grad():
            each = [float(loss(model, batch)) for batch in host.counted(batches(), request["batches"])]
        if not each:
            raise Failure("invalid", "calibration_batches() yields nothing", "It has to yield at least one batch.")
        mean = sum(each) / len(each)
        found.append(mean if isfinite(mean) else None)
    return found


ROUND_CALLS: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "train": _train,
    "align": _align,
    "recalibrate": _recalibrate,
    "losses": _losses,
}


def _symmetry(host: Host, batches: Sequence[tuple[Tensor, ...]]) -> Symmetry:
    """Derived once per process. Raises Failure ``unfit``: the model cannot be followed."""
    if host.symmetry is None:
        try:
            host.symmetry = derive(host.built(), batches[0])
        except UsageError as error:
            hint = "Set mixer.matching to none, or write the module with what docs/mixing.md lists."
            raise Failure("unfit", f"the model cannot be matched: {error.message}", hint) from error
    return host.symmetry


class _Caught(Exception):
    """The model was called: what it was called with is known."""


def _inputs(host: Host, most: int | None) -> list[tuple[Tensor, ...]]:
    """What the model is called with for each calibration batch, as positional arguments.

    Only the plug-in knows which part of a batch is the input: the batch is sent through ``loss`` (or handed over), and
    caught where the model is called.
    """
    model = host.built()
    run = host.run_through(model)
    caught: list[tuple[Tensor, ...]] = []

    def catch(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        caught.append(_positional(model, args, kwargs))
        raise _Caught

    handle = model.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        for batch in host.counted(host.method("calibration_batches")(), most):
            try:
                run(batch)
            except _Caught:
                continue
            hint = "loss(model, batch) has to call model(...); or set mixer.matching to none."
            raise Failure("invalid", "the model was not called with a calibration batch", hint)
    finally:
        handle.remove()
    if not caught:
        raise Failure("invalid", "calibration_batches() yields nothing", "It has to yield at least one batch.")
    return caught


def _positional(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, ...]:
    bound = inspect.signature(model.forward).bind(*args, **kwargs)
    bound.apply_defaults()
    given = list(bound.args)
    while given and given[-1] is None:
        given.pop()
    if bound.kwargs or not all(isinstance(each, Tensor) for each in given):
        what = "the model is called with something else than tensors as positional arguments"
        raise Failure("unfit", what, "Set mixer.matching to none, or wrap the model.")
    return tuple(given)


def _whole(model: nn.Module, state: State) -> dict[str, Tensor]:
    """The state with every name of the model: those that share a tensor with one that is there are filled in."""
    shared: dict[int, Tensor] = {}
    held = model.state_dict(keep_vars=True)
    for name, tensor in state.items():
        shared[id(held[name])] = tensor
    return {name: state[name] if name in state else shared[id(tensor)] for name, tensor in held.items()}


def _read(path: Path) -> tuple[list[TensorSpec], dict[str, Tensor]]:
    try:
        with open_weights(path) as files:
            specs = list(files.specs.values())
            tensors = {spec.name: read_slice(files, spec, 0, spec.numel)[0].reshape(spec.shape) for spec in specs}
    except MergenodeError as error:
        raise Failure("checkpoint", error.message, error.hint) from error
    return specs, tensors


def write_like(model: nn.Module, like: Path, out: Path) -> None:
    """The model's weights under the names and types of a checkpoint."""
    with open_weights(like) as files:
        specs = list(files.specs.values())
    write_model(out, specs, model.state_dict())


def _norm(model: nn.Module) -> float:
    """Over the floating entries of the state dict, in fp64."""
    floating = (tensor for tensor in model.state_dict().values() if tensor.is_floating_point())
    return sqrt(sum(float(tensor.double().square().sum()) for tensor in floating))
