"""Faults that only the bytes show, and promises of the pusher that do not hold."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mergenode.errors import RejectReason as R
from tests.support.checkpoints import (
    Q_PROJ,
    UP_PROJ,
    Tensors,
    finetuned,
    load_single,
    lora_tensors,
    write_adapter,
    write_json,
    write_single,
)
from tests.support.corpus_case import Cases

VALUES = Cases()
FILE = "model.safetensors"
ADAPTER = "adapter_model.safetensors"
MARKER = "mergenode.commit.json"
KEY = f"base_model.model.{Q_PROJ}"


def _full(reason: R, name: str, tensor: str, edit: Callable[[Tensors], object]) -> None:
    def write(place: Path, base: Path) -> None:
        tensors = finetuned(load_single(base))
        edit(tensors)
        write_single(place, tensors)

    write.__name__ = name
    VALUES.bad(reason, *((FILE, tensor) if tensor else ()), stage="values")(write)


def _adapter(reason: R, name: str, tensor: str, edit: Callable[[Tensors], object], **settings: Any) -> None:
    def write(place: Path, base: Path) -> None:
        tensors = lora_tensors()
        edit(tensors)
        write_adapter(place, tensors, **settings)

    write.__name__ = name
    VALUES.bad(reason, *((ADAPTER, tensor) if tensor else ()), stage="values")(write)


def _last(name: str, value: float) -> Callable[[Tensors], object]:
    def edit(tensors: Tensors) -> None:
        tensors[name].view(-1)[-1] = value

    return edit


def _scaled(factor: float) -> Callable[[Tensors], object]:
    def edit(tensors: Tensors) -> None:
        for name, tensor in tensors.items():
            tensors[name] = tensor * factor if tensor.is_floating_point() and tensor.ndim == 2 else tensor

    return edit


_full(R.NOT_FINITE, "one_nan_in_a_matrix", f"{UP_PROJ}.weight", _last(f"{UP_PROJ}.weight", float("nan")))
_full(R.NOT_FINITE, "one_nan_in_a_vector", "model.norm.weight", _last("model.norm.weight", float("nan")))
_full(R.NOT_FINITE, "one_infinity", f"{Q_PROJ}.weight", _last(f"{Q_PROJ}.weight", float("inf")))
_full(R.NOT_FINITE, "one_negative_infinity", f"{Q_PROJ}.bias", _last(f"{Q_PROJ}.bias", -float("inf")))
_full(
    R.NOT_FINITE,
    "scalar_nan",
    "model.scale",
    lambda tensors: tensors.update({"model.scale": torch.tensor(float("nan"))}),
)
_full(R.NORM_TOO_LARGE, "diverged", "", _scaled(1e6))
_full(R.NORM_TOO_LARGE, "one_flipped_exponent_bit", "", _last(f"{UP_PROJ}.weight", 2.0**120))
_adapter(R.NOT_FINITE, "adapter_nan", KEY, _last(f"{KEY}.lora_A.weight", float("nan")))
_adapter(R.NOT_FINITE, "adapter_product_overflows", "", lambda tensors: None, lora_alpha=1e300)
_adapter(R.NORM_TOO_LARGE, "adapter_diverged", "", lambda tensors: None, lora_alpha=1e9)
_adapter(R.EMPTY_DELTA, "adapter_never_trained", "", _scaled(0.0))


@VALUES.bad(R.EMPTY_DELTA, stage="values")
def copy_of_the_base(place: Path, base: Path) -> None:
    shutil.copytree(base, place)


def _marked(reason: R, name: str, marker: object, *, stage: Any = "listing") -> None:
    """A good fine-tune with this commit marker; text is written as it is."""

    def write(place: Path, base: Path) -> None:
        write_single(place, finetuned(load_single(base)))
        if isinstance(marker, str):
            (place / MARKER).write_text(marker)
        else:
            write_json(place / MARKER, marker)

    write.__name__ = name
    VALUES.bad(reason, stage=stage)(write)


_SCHEMA = {"schema": "mergenode.commit/1"}
_marked(R.MARKER_INVALID, "marker_not_json", "done")
_marked(R.MARKER_INVALID, "marker_of_another_schema", {"schema": "other/9", "files": {}})
_marked(R.MARKER_INVALID, "marker_weight_negative", _SCHEMA | {"weight": -1.0, "files": {}})
_marked(R.MARKER_INVALID, "marker_climbs", _SCHEMA | {"files": {"../../etc/passwd": {"size": 1}}})
_marked(R.MARKER_INVALID, "marker_nested_bomb", "[" * 200_000)


@VALUES.bad(R.DIGEST_MISMATCH, stage="values")
def marker_promises_another_content(place: Path, base: Path) -> None:
    write_single(place, finetuned(load_single(base)))
    files = {name: {"size": (place / name).stat().st_size} for name in (FILE, "config.json")}
    write_json(place / MARKER, _SCHEMA | {"content": "blake3:" + "0" * 64, "files": files})
