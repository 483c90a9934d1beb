"""A full checkpoint held against the base: every float tensor there, same shape, nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.digest import same_bytes
from mergenode.adapters.checkpoints.entries import Dense, Entry
from mergenode.adapters.checkpoints.name_prefix import SAME, Prefix, uniform_prefix
from mergenode.adapters.checkpoints.tied import implied_primaries
from mergenode.adapters.checkpoints.verbatim import check_alias
from mergenode.adapters.checkpoints.weights import WeightFiles
from mergenode.errors import RejectedError, RejectReason
from mergenode.types import TensorSpec

_BASE_HINT = "Offer fine-tunes of the base this node was started with."


def full_entries(weights: WeightFiles, base: BaseModel) -> tuple[dict[str, Entry], list[str]]:
    """Entries by base tensor name, and warnings. Integer and bool tensors are kept from the base: no entry.

    A tied weight has one entry, under its primary name, whichever of its names the contribution stores.

    Raises:
        RejectedError: OTHER_BASE, TENSOR_MISSING, TENSOR_UNEXPECTED, SHAPE_MISMATCH, DTYPE_MISMATCH,
            TIED_WEIGHTS_DIFFER; the message names file and tensor.
    """
    floats = [name for name, spec in base.specs.items() if spec.dtype.is_float and name not in base.aliases]
    prefix = uniform_prefix(floats, weights.specs) or SAME
    found = {name: prefix.apply(name) for name in base.specs if prefix.apply(name) in weights.specs}
    warnings = [f"tensor names match the base's {prefix}"] if prefix != SAME else []
    chosen = _choose(floats, found, base)
    _check_lineage(floats, chosen, weights, base)
    entries: dict[str, Entry] = {}
    for name in floats:
        if name not in chosen:
            raise _missing(name, weights)
        spec = weights.specs[chosen[name]]
        check_against(spec, base.specs[name], weights)
        entries[name] = Dense(chosen[name], spec)
    warnings += _check_buffers(found, weights, base)
    _check_second_names(found, chosen, weights, base)
    _check_unexpected(set(found.values()), chosen, weights, base, prefix)
    return entries, warnings


def check_against(spec: TensorSpec, wanted: TensorSpec, weights: WeightFiles) -> None:
    """Shape equal, float where the base is float. Raises RejectedError: SHAPE_MISMATCH, DTYPE_MISMATCH."""
    where = f"{weights.file_of(spec.name)}: tensor {spec.name!r}"
    if spec.shape != wanted.shape:
        raise RejectedError(
            RejectReason.SHAPE_MISMATCH,
            f"{where}: has shape {list(spec.shape)}, the base has {list(wanted.shape)}",
            hint=_shape_hint(spec, wanted),
        )
    if spec.dtype.is_float != wanted.dtype.is_float:
        raise RejectedError(
            RejectReason.DTYPE_MISMATCH,
            f"{where}: has element type {spec.dtype}, the base has {wanted.dtype}",
            hint="Save it unquantised, in a float type.",
        )


def _shape_hint(spec: TensorSpec, wanted: TensorSpec) -> str:
    if len(spec.shape) == 2 and spec.shape[1:] == wanted.shape[1:]:
        return "The vocabulary was resized: resize it back to the base's rows, padding included."
    return _BASE_HINT


def _choose(floats: list[str], found: Mapping[str, str], base: BaseModel) -> dict[str, str]:
    """Base tensor -> name in the contribution; a missing primary is read from one of its second names."""
    chosen = {name: found[name] for name in floats if name in found}
    for alias, primary in base.aliases.items():
        if primary not in chosen and alias in found:
            chosen[primary] = found[alias]
    return chosen


def _check_lineage(floats: list[str], chosen: Mapping[str, str], weights: WeightFiles, base: BaseModel) -> None:
    """When most tensors are not there in the base's shape, say so instead of naming the first of them."""
    fits = sum(name in chosen and weights.specs[chosen[name]].shape == base.specs[name].shape for name in floats)
    if floats and 2 * fits < len(floats):
        absent = next(name for name in floats if name not in chosen or
                      weights.specs[chosen[name]].shape != base.specs[name].shape)  # fmt: skip
        raise RejectedError(
            RejectReason.OTHER_BASE,
            f"{weights.path.name}: only {fits} of the base's {len(floats)} float tensors are there in its shape "
            f"(not, for example, {absent!r} in {', '.join(weights.files[:2])})",
            hint=_BASE_HINT,
        )


def _missing(name: str, weights: WeightFiles) -> RejectedError:
    return RejectedError(
        RejectReason.TENSOR_MISSING,
        f"{weights.path.name}: tensor {name!r} of the base is in none of {', '.join(weights.files[:3])}",
        hint="Save the whole model; an adapter needs its adapter_config.json.",
    )


def _check_buffers(found: Mapping[str, str], weights: WeightFiles, base: BaseModel) -> list[str]:
    missing: list[str] = []
    for name, wanted in base.specs.items():
        if wanted.dtype.is_float:
            continue
        if name in found:
            check_against(weights.specs[found[name]], wanted, weights)
        else:
            missing.append(name)
    if not missing:
        return []
    return [f"{len(missing)} integer tensors of the base are missing and kept from it, for example {missing[0]!r}"]


def _check_second_names(
    found: Mapping[str, str], chosen: Mapping[str, str], weights: WeightFiles, base: BaseModel
) -> None:
    for alias, primary in base.aliases.items():
        if alias in found and found[alias] != chosen[primary]:
            check_alias(weights, found[alias], primary, chosen[primary], base)


def _check_unexpected(
    known: set[str], chosen: Mapping[str, str], weights: WeightFiles, base: BaseModel, prefix: Prefix
) -> None:
    """What the base does not store may only be a second name of the input embedding, with the same values."""
    back = {source: name for name, source in chosen.items()}
    candidates = {source: weights.specs[source] for source in back}
    for source, spec in weights.specs.items():
        if source in known:
            continue
        primaries = implied_primaries(source, spec, candidates)
        if not primaries:
            near = f" (names are compared {prefix})" if prefix != SAME else ""
            raise unexpected(source, weights, near)
        if not any(same_bytes(weights, source, primary) for primary in primaries[1:]):
            check_alias(weights, source, back[primaries[0]], primaries[0], base)


def unexpected(source: str, weights: WeightFiles, detail: str = "") -> RejectedError:
    """The refusal of a tensor that the base does not have."""
    hint = "The base has no such tensor: offer a fine-tune of the same architecture."
    if ".lora_" in source:
        hint = "This is an adapter: offer the directory with its adapter_config.json and adapter_model.safetensors."
    return RejectedError(
        RejectReason.TENSOR_UNEXPECTED,
        f"{weights.file_of(source)}: tensor {source!r}: the base has none of that name{detail}",
        hint=hint,
    )
