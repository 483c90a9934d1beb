"""Faults that show when a full checkpoint is held against the base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from mergenode.errors import RejectReason as R
from tests.support.checkpoints import (
    CONV,
    EMBED,
    Q_PROJ,
    UP_PROJ,
    Tensors,
    finetuned,
    load_single,
    write_single,
)
from tests.support.corpus_case import Cases

TENSORS = Cases()
FILE = "model.safetensors"


def _edited(reason: R, name: str, tensor: str, edit: Callable[[Tensors], object]) -> None:
    """A fine-tune of the base with its tensors edited in place."""

    def write(place: Path, base: Path) -> None:
        tensors = finetuned(load_single(base))
        edit(tensors)
        write_single(place, tensors)

    write.__name__ = name
    TENSORS.bad(reason, FILE, tensor)(write)


def _renamed(tensors: Tensors) -> None:
    for name in list(tensors):
        tensors["gpt." + name.replace("layers", "h").replace("weight", "w")] = tensors.pop(name)


def _widened(tensors: Tensors) -> None:
    for name, tensor in tensors.items():
        tensors[name] = torch.cat([tensor, tensor]) if tensor.ndim else tensor


def _set(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors], object]:
    def edit(tensors: Tensors) -> None:
        tensors[name] = change(tensors[name])

    return edit


def _resized_vocabulary(tensors: Tensors) -> None:
    for name in (f"{EMBED}.weight", "lm_head.weight"):
        tensors[name] = torch.cat([tensors[name], tensors[name][:8]])


_edited(R.OTHER_BASE, "other_architecture", "model.", _renamed)
_edited(R.OTHER_BASE, "other_size", "model.", _widened)
_edited(R.TENSOR_MISSING, "tensor_missing", f"{UP_PROJ}.weight", lambda tensors: tensors.pop(f"{UP_PROJ}.weight"))
_edited(R.TENSOR_MISSING, "scalar_missing", "model.scale", lambda tensors: tensors.pop("model.scale"))
_edited(
    R.TENSOR_UNEXPECTED,
    "classifier_added",
    "score.weight",
    lambda tensors: tensors.update({"score.weight": torch.ones(2, 32)}),
)
_edited(
    R.TENSOR_UNEXPECTED,
    "bias_added",
    "up_proj.bias",
    lambda tensors: tensors.update({f"{UP_PROJ}.bias": torch.ones(64)}),
)
_edited(
    R.TENSOR_UNEXPECTED,
    "adapter_as_a_model",
    "lora_A",
    lambda tensors: tensors.update({f"{UP_PROJ}.lora_A.weight": torch.ones(4, 32)}),
)
_edited(R.SHAPE_MISMATCH, "vocabulary_resized", f"{EMBED}.weight", _resized_vocabulary)
_edited(R.SHAPE_MISMATCH, "matrix_transposed", f"{UP_PROJ}.weight", _set(f"{UP_PROJ}.weight", lambda value: value.T))
_edited(
    R.SHAPE_MISMATCH, "matrix_flattened", f"{CONV}.weight", _set(f"{CONV}.weight", lambda value: value.reshape(8, 36))
)
_edited(R.SHAPE_MISMATCH, "scalar_as_a_vector", "model.scale", _set("model.scale", lambda value: value.reshape(1)))
_edited(
    R.SHAPE_MISMATCH,
    "buffer_of_another_length",
    "model.position_ids",
    _set("model.position_ids", lambda value: value[:, :8]),
)
_edited(
    R.DTYPE_MISMATCH,
    "quantised_to_integers",
    f"{Q_PROJ}.weight",
    _set(f"{Q_PROJ}.weight", lambda value: value.to(torch.int8)),
)
_edited(
    R.DTYPE_MISMATCH, "buffer_as_floats", "model.position_ids", _set("model.position_ids", lambda value: value.float())
)
_edited(R.TIED_WEIGHTS_DIFFER, "tied_head_differs", "lm_head.weight", _set("lm_head.weight", lambda value: value + 1))
_edited(
    R.TIED_WEIGHTS_DIFFER,
    "tied_head_differs_in_its_last_element",
    "lm_head.weight",
    _set("lm_head.weight", lambda value: value.index_fill(0, torch.tensor([47]), 3.0)),
)
_edited(
    R.TIED_WEIGHTS_DIFFER,
    "tied_head_of_another_type",
    "lm_head.weight",
    _set("lm_head.weight", lambda value: value.float()),
)
