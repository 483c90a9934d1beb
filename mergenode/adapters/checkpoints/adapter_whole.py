"""Whole tensors inside an adapter: ``modules_to_save``, trained biases, embeddings saved along."""

from __future__ import annotations

from collections.abc import Mapping

from mergenode.adapters.checkpoints.adapter import AdaptedModules
from mergenode.adapters.checkpoints.entries import Dense, Entry
from mergenode.adapters.checkpoints.full import check_against, unexpected
from mergenode.adapters.checkpoints.tied import implied_primaries
from mergenode.adapters.checkpoints.verbatim import check_alias, holds_base_values
from mergenode.errors import RejectedError, RejectReason


def add_whole_tensors(adapted: AdaptedModules, entries: dict[str, Entry]) -> list[str]:
    """Add a dense entry for every whole tensor of the adapter; returns warnings.

    A copy of an untouched base tensor (peft saves the embedding beside an adapter on it) adds nothing.

    Raises:
        RejectedError: TENSOR_UNEXPECTED, SHAPE_MISMATCH, DTYPE_MISMATCH, TIED_WEIGHTS_DIFFER, ADAPTER_UNSUPPORTED (a
            tensor both replaced and adapted), ADAPTER_INCOMPLETE (a module of modules_to_save is missing).
    """
    weights, base = adapted.weights, adapted.base
    found = {adapted.prefix.apply(name): source for name, source in adapted.tensors.whole.items()}
    for name, source in found.items():
        if name in base.specs and name not in base.aliases:
            check_against(weights.specs[source], base.specs[name], weights)
            _add(adapted, entries, name, source)
    for name, source in found.items():
        if name in base.aliases:
            primary = base.aliases[name]
            check_alias(weights, source, primary, found.get(primary), base)
        elif name not in base.specs:
            primaries = implied_primaries(name, weights.specs[source], base.specs)
            if not primaries:
                raise unexpected(source, weights)
            check_alias(weights, source, primaries[0], found.get(primaries[0]), base)
    _check_saved_modules(adapted, found)
    extra = [name for name in found if not _is_saved(name, adapted.config.modules_to_save) and name in entries]
    biases = [name for name in extra if name.endswith("bias")]
    if len(extra) > len(biases):
        first = next(name for name in extra if name not in biases)
        return [f"{len(extra) - len(biases)} tensors outside of modules_to_save are replaced whole, e.g. {first!r}"]
    return []


def _add(adapted: AdaptedModules, entries: dict[str, Entry], name: str, source: str) -> None:
    weights, base = adapted.weights, adapted.base
    if not base.specs[name].dtype.is_float:
        return  # kept from the base
    if name not in entries:
        entries[name] = Dense(source, weights.specs[source])
    elif not holds_base_values(weights, source, base, name):
        raise RejectedError(
            RejectReason.ADAPTER_UNSUPPORTED,
            f"{weights.file_of(source)}: tensor {source!r}: replaces {name!r}, which the adapter also changes",
            hint="Merge the adapter into the base model (peft: merge_and_unload) and offer the full checkpoint.",
        )


def _check_saved_modules(adapted: AdaptedModules, found: Mapping[str, str]) -> None:
    """A module that the adapter says it saves, and that the base has, must be there whole."""
    for name, spec in adapted.base.specs.items():
        saved = _is_saved(name, adapted.config.modules_to_save) and spec.dtype.is_float
        if saved and name not in found and name not in adapted.base.aliases:
            raise RejectedError(
                RejectReason.ADAPTER_INCOMPLETE,
                f"{adapted.weights.files[0]}: tensor {name!r} is missing, though {adapted.config.shown} lists its "
                "module in modules_to_save",
                hint="Save the adapter again with peft's save_pretrained.",
            )


def _is_saved(name: str, modules: tuple[str, ...]) -> bool:
    """Whether a tensor lies in one of the modules, named whole or by an ending after a dot."""
    return any(f".{name}".find(f".{module}.") != -1 for module in modules)
