"""From an entrypoint to an object, and from a checkpoint to a model with its weights; inside the plug-in's process."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.adapters.engines.local.tensors import read_slice
from mergenode.adapters.tasks.failure import Failure
from mergenode.errors import MergenodeError

_SHOWN = 5
_FIT_HINT = (
    "build_model() must return a module whose state_dict() has the names and shapes of the base; "
    "keep what is not part of the checkpoints in the plug-in."
)


def find_task(entrypoint: str) -> Any:
    """The plug-in: an object of the class ``package.module:Class``. What the module itself raises passes through."""
    module_name, _, class_name = entrypoint.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there; something that it imports is not
        raise Failure(
            "entrypoint",
            f"there is no module {error.name!r}",
            "Install it, or name its directory (task.path, --task-path).",
        ) from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        place = getattr(module, "__file__", module_name)
        raise Failure("entrypoint", f"{place} has no class {class_name!r}", "Check the name behind the colon.")
    return found()


def load_weights(model: nn.Module, checkpoint: Path) -> tuple[str, ...]:
    """Fill ``model`` with the weights of a checkpoint, tensor by tensor; set it to evaluation; the checkpoint's names.

    Strict: every entry of the state dict is in the checkpoint with its shape, and the reverse. An entry that shares
    its memory with one that is there (tied weights) may be absent. Raises Failure: ``unfit``, ``checkpoint``.
    """
    state = model.state_dict()
    try:
        with open_weights(checkpoint, root=trusted_root(checkpoint)) as files:
            check_names(state, files, checkpoint.name)
            with torch.no_grad():
                for name, spec in files.specs.items():
                    values, _ = read_slice(files, spec, 0, spec.numel)
                    state[name].copy_(values.view(spec.shape))
            files.assert_unchanged()
            names = tuple(files.specs)
    except MergenodeError as error:
        raise Failure("checkpoint", error.message, error.hint) from error
    model.eval()
    return names


def names_by_parameter(model: nn.Module, names: Iterable[str]) -> dict[int, str]:
    """The name that each parameter has in a checkpoint of these ``names``, by its id; the first of several."""
    state = model.state_dict(keep_vars=True)
    found: dict[int, str] = {}
    for name in names:
        found.setdefault(id(state[name]), name)
    return found


def check_names(state: Mapping[str, Tensor], files: WeightFiles, label: str) -> None:
    """Strict, see ``load_weights``; ``label`` names the checkpoint. Raises Failure: ``unfit``."""
    there = {_place(state[name]) for name in files.specs if name in state}
    missing = [name for name in state if name not in files.specs and _place(state[name]) not in there]
    if missing:
        raise Failure("unfit", f"{label} has no weights for {_listed(missing)} of the model", _FIT_HINT)
    surplus = [name for name in files.specs if name not in state]
    if surplus:
        raise Failure("unfit", f"the model of the plug-in has no place for {_listed(surplus)} of {label}", _FIT_HINT)
    for name, spec in files.specs.items():
        if tuple(state[name].shape) != spec.shape:
            shapes = f"{list(state[name].shape)} in the model and {list(spec.shape)} in {label}"
            raise Failure("unfit", f"{name!r} has shape {shapes}", _FIT_HINT)


def _place(tensor: Tensor) -> tuple[object, ...]:
    """Equal for entries of a state dict that are one tensor."""
    if not tensor.numel():
        return (id(tensor),)
    return (tensor.device, tensor.data_ptr(), tuple(tensor.shape))


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
