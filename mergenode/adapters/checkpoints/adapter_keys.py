"""The names of an adapter's tensors: which module, which part of it.

peft writes ``base_model.model.<module>.lora_A.weight``; other tools leave the adapter's name in
(``lora_A.default.weight``) or the prefix out. Embeddings have ``lora_embedding_A``; whole tensors appear under their
own name, with ``base_layer`` or ``modules_to_save.<adapter>`` in it when they were saved from inside a wrapper.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from mergenode.adapters.checkpoints.weights import WeightFiles
from mergenode.errors import RejectedError, RejectReason

_PREFIX = "base_model.model."
_FACTOR = re.compile(r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B)(?P<tail>(?:\.[^.]+)*)")
_TAILS = {"lora_A": ("weight",), "lora_B": ("weight", "bias")}
_SAVED = re.compile(r"\.modules_to_save\.(?:[^.]+\.(?=[^.]+$|weight$|bias$))?")
_FOREIGN = re.compile(
    r"(?:^|\.)(?:lora_\w+|token_adapter|trainable_tokens\w*|original_module|prompt_embeddings)(?:\.|$)"
)
_VARIANT_HINT = "Merge the adapter into the base model (peft: merge_and_unload) and offer the full checkpoint."


@dataclass(slots=True)
class ModuleFactors:
    """The tensors of one adapted module, by their names in the file."""

    module: str
    """Its name inside the model, as patterns of the configuration are matched against."""
    left: str | None = None
    right: str | None = None
    bias: str | None = None
    embedding: bool = False


@dataclass(slots=True)
class AdapterTensors:
    """All tensors of an adapter, sorted by what they are."""

    modules: dict[str, ModuleFactors] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)
    """Base tensor name (prefix not aligned yet) -> name in the file."""


def sort_tensors(names: Iterable[str], weights: WeightFiles) -> AdapterTensors:
    """Sort an adapter's tensor names.

    Raises:
        RejectedError: ADAPTER_UNSUPPORTED for parts that a plain LoRA does not have, or two adapters in one file;
            ADAPTER_INCOMPLETE for half a pair, or no tensors at all.
    """
    sorted_ = AdapterTensors()
    for name in names:
        plain = name.removeprefix(_PREFIX)
        factor = _FACTOR.fullmatch(plain)
        if factor is not None and _valid_tail(factor["part"], factor["tail"]):
            _add_factor(sorted_, factor, name, weights)
        elif _FOREIGN.search(plain):
            raise RejectedError(
                RejectReason.ADAPTER_UNSUPPORTED,
                f"{weights.file_of(name)}: tensor {name!r} does not belong to a plain LoRA",
                hint=_VARIANT_HINT,
            )
        else:
            target = _SAVED.sub(".", plain).replace(".base_layer.", ".")
            _claim(sorted_.whole, target, name, weights)
    _check_pairs(sorted_, weights)
    return sorted_


def _valid_tail(part: str, tail: str) -> bool:
    pieces = tail.split(".")[1:]
    if part.startswith("lora_embedding"):
        return len(pieces) <= 1
    return 1 <= len(pieces) <= 2 and pieces[-1] in _TAILS[part]


def _add_factor(found: AdapterTensors, factor: re.Match[str], name: str, weights: WeightFiles) -> None:
    if ".base_layer." in factor["module"]:
        # huggingface/peft pull request 3774: versions differ on how often they add this delta
        raise RejectedError(
            RejectReason.ADAPTER_UNSUPPORTED,
            f"{weights.file_of(name)}: tensor {name!r} adapts a module inside an adapted one (torch's "
            "MultiheadAttention), which versions of peft scale differently",
            hint=_VARIANT_HINT,
        )
    entry = found.modules.setdefault(factor["module"], ModuleFactors(factor["module"]))
    embedding = factor["part"].startswith("lora_embedding")
    slot = "bias" if factor["tail"].endswith(".bias") else "right" if factor["part"].endswith("_A") else "left"
    other_kind = (entry.left or entry.right) and entry.embedding != embedding
    if getattr(entry, slot) is not None or other_kind:
        raise _two_adapters(name, weights)
    entry.embedding = embedding
    setattr(entry, slot, name)


def _claim(whole: dict[str, str], target: str, name: str, weights: WeightFiles) -> None:
    if target in whole:
        raise _two_adapters(name, weights)
    whole[target] = name


def _two_adapters(name: str, weights: WeightFiles) -> RejectedError:
    return RejectedError(
        RejectReason.ADAPTER_UNSUPPORTED,
        f"{weights.file_of(name)}: tensor {name!r}: this part of the module is there twice (two adapters in one file?)",
        hint="Offer each adapter in a directory of its own.",
    )


def _check_pairs(found: AdapterTensors, weights: WeightFiles) -> None:
    if not found.modules and not found.whole:
        raise RejectedError(
            RejectReason.ADAPTER_INCOMPLETE, f"{weights.path.name}/{weights.files[0]}: holds no tensors"
        )
    for entry in found.modules.values():
        if entry.left is None or entry.right is None:
            there = entry.left or entry.right or entry.bias
            missing = "lora_B" if entry.left is None else "lora_A"
            raise RejectedError(
                RejectReason.ADAPTER_INCOMPLETE,
                f"{weights.files[0]}: tensor {there!r}: its counterpart ({missing}) is missing",
                hint="Save the adapter again with all ranks of the training run gathered.",
            )
