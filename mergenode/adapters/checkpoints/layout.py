"""Which files of a directory are the checkpoint.

Rules, in this order:

1. ``adapter_model.safetensors`` or ``adapter_config.json``: a PEFT adapter. Full weights beside it: ambiguous.
2. ``*.safetensors.index.json``: its shards, if all of them are there; other ``.safetensors`` files are ignored
   (reported in ``ignored``). If shards are missing while other weights lie there, nobody can say which of the two
   the pusher means: ambiguous; without other weights the shard is missing. Of several indices
   ``model.safetensors.index.json`` wins; none of that name: ambiguous.
3. ``model.safetensors``; files beside it that are not shards are ignored.
4. Any other single ``.safetensors`` file. Several: ambiguous.
5. No safetensors at all: pickles are refused, and so is nothing.

Side-cars (``*.fisher.safetensors``, ``*.gram.safetensors``) are no weights and count in none of the rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mergenode.adapters.checkpoints.side_car_names import WEIGHTS_SUFFIX, is_side_car
from mergenode.errors import RejectedError, RejectReason

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
INDEX_SUFFIX = ".safetensors.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_MODEL = "model.safetensors"
_MODEL_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"-\d{1,6}-of-\d{1,6}\.safetensors$")
_CONVERT_HINT = (
    "A pickle can run code when it is read, so mergenode never does. Convert it where you trust it: "
    "model.save_pretrained(directory, safe_serialization=True), or safetensors.torch.save_file(state_dict, file)."
)


@dataclass(frozen=True, slots=True)
class Layout:
    """The weight files of a checkpoint by plain name, in reading order, and what the index claims of them."""

    files: tuple[str, ...]
    adapter: bool = False
    index: str | None = None
    weight_map: dict[str, str] | None = None
    ignored: tuple[str, ...] = ()


def choose_layout(path: Path, names: tuple[str, ...], read_index: Callable[[str], dict[str, str]]) -> Layout:
    """Decide by the names in the directory ``path`` alone; ``read_index`` parses an index by its name.

    Raises:
        RejectedError: AMBIGUOUS_WEIGHTS, SHARD_MISSING, PICKLE_ONLY, NO_WEIGHTS, and what ``read_index`` raises.
    """
    visible = [name for name in names if not name.startswith(".") and name.isprintable()]
    weights = [name for name in visible if name.endswith(WEIGHTS_SUFFIX) and not is_side_car(name)]
    if ADAPTER_CONFIG in visible or ADAPTER_WEIGHTS in visible:
        return _adapter(path, visible, weights)
    indices = [name for name in visible if name.endswith(INDEX_SUFFIX)]
    if indices:
        return _indexed(path, indices, weights, read_index)
    if weights:
        return _single(path, weights)
    raise no_weights(path, visible)


def no_weights(path: Path, names: list[str]) -> RejectedError:
    """What to say of a place without safetensors."""
    pickles = [name for name in names if name.endswith(PICKLE_SUFFIXES)]
    if pickles:
        return RejectedError(
            RejectReason.PICKLE_ONLY, f"{path}: has weights as pickles only ({pickles[0]})", hint=_CONVERT_HINT
        )
    return RejectedError(
        RejectReason.NO_WEIGHTS,
        f"{path}: has no .safetensors file",
        hint="Offer a Hugging Face directory, a bare .safetensors file or a PEFT adapter directory.",
    )


def _adapter(path: Path, visible: list[str], weights: list[str]) -> Layout:
    others = [name for name in weights if name != ADAPTER_WEIGHTS]
    if others:
        raise RejectedError(
            RejectReason.AMBIGUOUS_WEIGHTS,
            f"{path}: has an adapter and also full weights ({others[0]})",
            hint="Keep the adapter and the model in two directories.",
        )
    if ADAPTER_WEIGHTS not in visible:
        raise no_weights(path, visible)
    return Layout((ADAPTER_WEIGHTS,), adapter=True)


def _indexed(path: Path, indices: list[str], weights: list[str], read_index: Callable[[str], dict[str, str]]) -> Layout:
    index = _MODEL_INDEX if _MODEL_INDEX in indices else indices[0]
    if len(indices) > 1 and index != _MODEL_INDEX:
        raise RejectedError(
            RejectReason.AMBIGUOUS_WEIGHTS,
            f"{path}: has several indices ({', '.join(indices[:3])})",
            hint="Keep one index, or name the right one model.safetensors.index.json.",
        )
    weight_map = read_index(index)
    shards = tuple(sorted(set(weight_map.values())))
    missing = [shard for shard in shards if shard not in weights]
    others = tuple(name for name in weights if name not in shards)
    if missing and others:
        raise RejectedError(
            RejectReason.AMBIGUOUS_WEIGHTS,
            f"{path}: {index} names {missing[0]}, which is not there, but {others[0]} is",
            hint="Remove the index, or the weights that do not belong to it, whichever is stale.",
        )
    if missing:
        tensor = next(name for name, shard in weight_map.items() if shard == missing[0])
        raise RejectedError(
            RejectReason.SHARD_MISSING,
            f"{path}: {index} names {missing[0]} (tensor {tensor!r}), which is not there; "
            f"{len(shards) - len(missing)} of {len(shards)} shards are",
            hint="Transfer the missing shard.",
        )
    return Layout(shards, index=index, weight_map=weight_map, ignored=others)


def _single(path: Path, weights: list[str]) -> Layout:
    chosen = _MODEL if _MODEL in weights else weights[0]
    others = [name for name in weights if name != chosen]
    stray = [name for name in others if chosen != _MODEL or _SHARD.search(name)]
    if stray:
        raise RejectedError(
            RejectReason.AMBIGUOUS_WEIGHTS,
            f"{path}: has {len(weights)} .safetensors files and no index ({chosen}, {stray[0]})",
            hint="Shards need their model.safetensors.index.json; a single file needs to be alone.",
        )
    return Layout((chosen,), ignored=tuple(others))
