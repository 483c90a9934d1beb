"""``adapter_config.json`` of a PEFT LoRA adapter: the settings that change what the tensors mean.

Follows Hugging Face peft (``LoraConfig``, ``LoraModel._create_and_replace``, ``get_pattern_key``). LoRA: Hu et al.,
2021, arXiv:2106.09685; rank-stabilised scaling: Kalajdzievski, 2023, arXiv:2312.03732.

Anything that makes the adapter more than ``base + scale * B @ A`` is refused. The check is closed: a setting that is
not known to be harmless and is switched on counts as one that changes the meaning.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mergenode.adapters.checkpoints.json_scan import JsonFault, parse_small
from mergenode.adapters.checkpoints.layout import ADAPTER_CONFIG
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.module_pattern import ModulePattern, UnsafePattern
from mergenode.adapters.checkpoints.regular_file import read_small
from mergenode.errors import RejectedError, RejectReason, TransientError, TransientReason

_HARMLESS = frozenset({
    "alora_invocation_string", "arrow_config_path", "auto_mapping", "base_model_name_or_path", "bias",
    "corda_config", "ensure_weight_tying", "eva_config", "exclude_modules", "inference_mode", "layers_pattern",
    "layers_to_transform", "loftq_config", "lora_dropout", "lora_ga_config", "megatron_core",
    "modules_to_save", "peft_type", "peft_version", "qalora_group_size", "revision", "runtime_config",
    "target_modules", "task_type", "velora_config",
    # read below
    "alpha_pattern", "fan_in_fan_out", "init_lora_weights", "lora_alpha", "lora_bias", "r", "rank_pattern",
    "use_rslora",
})  # fmt: skip
_WHY = {
    "use_dora": "DoRA rescales the columns of the base weight",
    "layer_replication": "layer replication changes the number of layers",
    "alora_invocation_tokens": "activated LoRA applies to a part of the tokens only",
    "target_parameters": "adapters on bare parameters (stacked experts) are not a plain low-rank delta of one matrix",
    "trainable_token_indices": "trained token rows are stored in a form of their own",
    "megatron_config": "Megatron layers are split over devices",
    "use_qalora": "QALoRA pools the input of quantised layers",
}
_PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "true", "false")
_CONFIG_HINT = "Save the adapter again with peft's save_pretrained."
_MERGE_HINT = "Merge the adapter into the base model (peft: merge_and_unload) and offer the full checkpoint instead."
_INIT_HINT = (
    "This initialisation changes the base weights. Convert the adapter to a plain LoRA "
    "(peft: save_pretrained(..., path_initial_model_for_weight_conversion=...))."
)


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What is needed to turn factor tensors into deltas."""

    shown: str
    rank: int
    alpha: float
    rank_patterns: tuple[tuple[ModulePattern, int], ...]
    alpha_patterns: tuple[tuple[ModulePattern, float], ...]
    use_rslora: bool
    fan_in_fan_out: bool
    lora_bias: bool
    target_modules: tuple[str, ...] | None
    """Names or name endings of the adapted modules; None when the adapter says so by a pattern."""
    modules_to_save: tuple[str, ...]
    canonical: bytes
    """The settings above that change the meaning of the tensors, in one fixed spelling."""

    def rank_of(self, module: str) -> int:
        """The rank declared for a module (its name inside the model): the first pattern that matches wins."""
        return next((rank for pattern, rank in self.rank_patterns if pattern.matches(module)), self.rank)

    def scale_of(self, module: str) -> float:
        """The factor of ``B @ A``: alpha / r, rank-stabilised alpha / sqrt(r). Finite, because alpha is and r >= 1."""
        alpha = next((alpha for pattern, alpha in self.alpha_patterns if pattern.matches(module)), self.alpha)
        rank = self.rank_of(module)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


def read_adapter_config(directory: Path, *, root: Path, limits: Limits) -> AdapterConfig:
    """Read and check ``adapter_config.json`` of an adapter directory.

    Raises:
        RejectedError: ADAPTER_CONFIG_INVALID (missing, malformed, wrong types), ADAPTER_UNSUPPORTED (says which
            setting), and what opening a file raises.
        TransientError: the file could not be read.
    """
    shown = f"{directory.name}/{ADAPTER_CONFIG}"
    try:
        text = read_small(
            directory / ADAPTER_CONFIG,
            root=root,
            shown=shown,
            max_bytes=limits.config_bytes,
            too_large=RejectReason.ADAPTER_CONFIG_INVALID,
        )
    except TransientError as error:
        if error.reason is not TransientReason.VANISHED:
            raise
        raise _invalid(shown, "is missing beside the adapter's weights") from error
    try:
        settings = parse_small(text)
    except JsonFault as error:
        raise _invalid(shown, str(error)) from error
    if not isinstance(settings, dict):
        raise _invalid(shown, "is not a JSON object")
    return parse_adapter_config(settings, shown=shown, limits=limits)


def parse_adapter_config(settings: Mapping[str, object], *, shown: str, limits: Limits) -> AdapterConfig:
    """Check settings that were read already; ``shown`` names the file in messages."""
    _refuse_variants(settings, shown)
    rank = _rank(settings.get("r", 8), "r", shown, limits)
    alpha = _alpha(settings.get("lora_alpha", 8), "lora_alpha", shown)
    ranks = {key: _rank(value, f"rank_pattern[{key!r}]", shown, limits)
             for key, value in _table(settings, "rank_pattern", shown, limits).items()}  # fmt: skip
    alphas = {key: _alpha(value, f"alpha_pattern[{key!r}]", shown)
              for key, value in _table(settings, "alpha_pattern", shown, limits).items()}  # fmt: skip
    flags = {name: _flag(settings, name, shown) for name in ("use_rslora", "fan_in_fan_out", "lora_bias")}
    canonical = {"peft": "LORA", "r": rank, "lora_alpha": alpha, "rank_pattern": list(ranks.items()),
                 "alpha_pattern": list(alphas.items()), **flags}  # fmt: skip
    targets = settings.get("target_modules")
    return AdapterConfig(
        shown=shown,
        rank=rank,
        alpha=alpha,
        rank_patterns=tuple(zip(_patterns(ranks, shown, limits), ranks.values(), strict=True)),
        alpha_patterns=tuple(zip(_patterns(alphas, shown, limits), alphas.values(), strict=True)),
        use_rslora=flags["use_rslora"],
        fan_in_fan_out=flags["fan_in_fan_out"],
        lora_bias=flags["lora_bias"],
        target_modules=None
        if targets is None or isinstance(targets, str)
        else _names(targets, "target_modules", shown),
        modules_to_save=_names(settings.get("modules_to_save") or [], "modules_to_save", shown),
        canonical=json.dumps(canonical, sort_keys=True, separators=(",", ":"), allow_nan=False).encode(),
    )


def _refuse_variants(settings: Mapping[str, object], shown: str) -> None:
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise RejectedError(
            RejectReason.ADAPTER_UNSUPPORTED if isinstance(kind, str) else RejectReason.ADAPTER_CONFIG_INVALID,
            f"{shown}: peft_type is {kind!r}, only 'LORA' is read natively",
            hint=_MERGE_HINT,
        )
    for key, value in settings.items():
        if key not in _HARMLESS and value:
            why = _WHY.get(key, "this setting is not known to keep the adapter a plain low-rank delta")
            raise RejectedError(
                RejectReason.ADAPTER_UNSUPPORTED, f"{shown}: {key[:80]!r} is set: {why}", hint=_MERGE_HINT
            )
    init = settings.get("init_lora_weights", True)
    if init is not None and not isinstance(init, bool) and str(init).lower() not in _PLAIN_INITS:
        raise RejectedError(
            RejectReason.ADAPTER_UNSUPPORTED,
            f"{shown}: init_lora_weights is {str(init)[:80]!r}, which may start from other base weights",
            hint=_INIT_HINT,
        )


def _rank(value: object, key: str, shown: str, limits: Limits) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _invalid(shown, f"{key} is {value!r}, needs an integer >= 1")
    if value > limits.adapter_rank:
        raise RejectedError(
            RejectReason.TOO_LARGE,
            f"{shown}: {key} is {value}, at most {limits.adapter_rank} is read",
            hint=_MERGE_HINT,
        )
    return value


def _alpha(value: object, key: str, shown: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid(shown, f"{key} is {value!r}, needs a number")
    try:
        alpha = float(value)
    except OverflowError:
        alpha = math.inf
    if not math.isfinite(alpha):
        raise _invalid(shown, f"{key} is not finite")
    return alpha


def _flag(settings: Mapping[str, object], key: str, shown: str) -> bool:
    value = settings.get(key)
    if value is not None and not isinstance(value, bool):
        raise _invalid(shown, f"{key} is {value!r}, needs true or false")
    return bool(value)


def _table(settings: Mapping[str, object], key: str, shown: str, limits: Limits) -> Mapping[str, object]:
    value = settings.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _invalid(shown, f"{key} is not an object")
    if len(value) > limits.patterns:
        raise _invalid(shown, f"{key} has {len(value)} entries, at most {limits.patterns} are read")
    return value


def _names(value: object, key: str, shown: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise _invalid(shown, f"{key} is not a list of names")
    return tuple(value)


def _patterns(table: Mapping[str, object], shown: str, limits: Limits) -> list[ModulePattern]:
    patterns: list[ModulePattern] = []
    for key in table:
        try:
            patterns.append(ModulePattern(key))
        except UnsafePattern as error:
            raise _invalid(shown, f"pattern {key[:80]!r}: {error}") from error
    if sum(not pattern.literal for pattern in patterns) > limits.free_patterns:
        raise _invalid(shown, f"has more than {limits.free_patterns} patterns that are not plain module names")
    return patterns


def _invalid(shown: str, fault: str) -> RejectedError:
    return RejectedError(RejectReason.ADAPTER_CONFIG_INVALID, f"{shown}: {fault}", hint=_CONFIG_HINT)
