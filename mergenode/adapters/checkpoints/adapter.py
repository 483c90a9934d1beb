"""A PEFT LoRA adapter held against the base: every factor pair becomes a low-rank delta of one base tensor.

Formulas (peft ``tuners/lora/layer.py``, get_delta_weight; LoRA: arXiv:2106.09685, equation 3)::

    linear                 delta = scale * B @ A              A [r, in], B [out, r]
    weights stored [in, out]       scale * (B @ A)^T          (Conv1D of GPT-2, fan_in_fan_out)
    embedding              delta = scale * (B @ A)^T          A [r, rows], B [columns, r]
    convolution            delta = scale * B @ A              A [r, in, *kernel], B [out, r, 1, ...], flattened
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from mergenode.adapters.checkpoints.adapter_config import AdapterConfig
from mergenode.adapters.checkpoints.adapter_keys import AdapterTensors, ModuleFactors, sort_tensors
from mergenode.adapters.checkpoints.adapter_orientation import Orientation
from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.entries import Additive, Entry, LowRank
from mergenode.adapters.checkpoints.name_prefix import SAME, Prefix, uniform_prefix
from mergenode.adapters.checkpoints.weights import WeightFiles
from mergenode.errors import RejectedError, RejectReason
from mergenode.types import TensorSpec

_TARGET_HINT = "Offer an adapter that was trained on the base this node was started with."
_SAVE_HINT = "Save the adapter again; its settings and its tensors come from two runs."


class AdaptedModules:
    """The factor pairs of an adapter, matched with the base."""

    def __init__(self, weights: WeightFiles, config: AdapterConfig, base: BaseModel) -> None:
        self.weights = weights
        self.config = config
        self.base = base
        self.tensors: AdapterTensors = sort_tensors(weights.specs, weights)
        self.prefix: Prefix = self._align()

    def entries(self) -> tuple[dict[str, Entry], list[str]]:
        """Low-rank and additive entries by base tensor name, and warnings.

        Raises:
            RejectedError: ADAPTER_TARGET_UNKNOWN, ADAPTER_UNSUPPORTED, SHAPE_MISMATCH, DTYPE_MISMATCH,
                TENSOR_UNEXPECTED; the message names file and tensor.
        """
        modules = self.tensors.modules.values()
        placed = {module.module: self._target(module) for module in modules}
        orientation = Orientation(self.config.fan_in_fan_out)
        for module in modules:
            if not module.embedding and len(placed[module.module].shape) == 2:
                orientation.observe(module.module, placed[module.module].shape, *self._outer(module))
        found: dict[str, Entry] = {}
        for module in modules:
            wanted = placed[module.module]
            found[wanted.name] = self._low_rank(module, wanted, orientation)
            if module.bias is not None:
                found.update(self._additive(module, wanted))
        warnings = [f"module names match the base's {self.prefix}"] if self.prefix != SAME else []
        tied = [alias for alias, primary in self.base.aliases.items() if primary in found]
        return found, warnings + [f"the delta of a tied weight also enters its second name {name!r}" for name in tied]

    def _align(self) -> Prefix:
        """The one prefix by which module names differ from the base's, if any."""
        there = {name.rpartition(".")[0] for name in self.base.specs}
        names = {*self.tensors.modules, *(name.rpartition(".")[0] for name in self.tensors.whole)}
        return uniform_prefix(sorted(names), there) or SAME

    def _target(self, module: ModuleFactors) -> TensorSpec:
        """The base tensor that a module's pair adapts."""
        assert module.left is not None
        name = self.prefix.apply(module.module)
        wanted = self.base.specs.get(f"{name}.weight")
        if wanted is None or not wanted.dtype.is_float:
            raise self._refuse(
                RejectReason.ADAPTER_TARGET_UNKNOWN,
                module.left,
                f"the base has no float tensor {name + '.weight'!r}" + self._tied_remark(name),
                _TARGET_HINT,
            )
        if wanted.name in self.base.aliases:
            raise self._refuse(
                RejectReason.ADAPTER_UNSUPPORTED,
                module.left,
                f"{wanted.name!r} is a second name of {self.base.aliases[wanted.name]!r}, which it cannot leave alone",
                "Adapt the embedding, or start the node from a base whose embeddings are untied.",
            )
        targets = self.config.target_modules
        if targets is not None and not _is_target(module.module, targets):
            raise self._refuse(
                RejectReason.ADAPTER_TARGET_UNKNOWN,
                module.left,
                f"module {module.module!r} is not among target_modules of {self.config.shown}",
                _SAVE_HINT,
            )
        return wanted

    def _tied_remark(self, module: str) -> str:
        return " (a tied head is not stored)" if module.endswith("lm_head") else ""

    def _outer(self, module: ModuleFactors) -> tuple[int, int]:
        """(out, in) of a pair as peft defines them, after checking types, dimensions and rank."""
        assert module.left is not None
        assert module.right is not None
        left, right = self.weights.specs[module.left], self.weights.specs[module.right]
        for spec in (left, right):
            if not spec.dtype.is_float:
                raise self._refuse(
                    RejectReason.DTYPE_MISMATCH, spec.name, f"is {spec.dtype}, needs a float type", _SAVE_HINT
                )
            if len(spec.shape) < 2:
                raise self._shape(spec, "needs at least two dimensions")
        rank = self.config.rank_of(module.module)
        if right.shape[0] != rank:
            raise self._shape(right, f"the rank of this module is {rank} by {self.config.shown}")
        if left.shape[1] != rank:
            raise self._shape(left, f"its counterpart has rank {rank}")
        return left.shape[0], right.shape[1]

    def _low_rank(self, module: ModuleFactors, wanted: TensorSpec, orientation: Orientation) -> LowRank:
        assert module.left is not None
        assert module.right is not None
        out, inner = self._outer(module)
        scale = self.config.scale_of(module.module)
        rank = self.weights.specs[module.right].shape[0]
        if len(wanted.shape) == 2:
            self._check_flat(module)
            if module.embedding:
                transposed = True
                fits = wanted.shape == (inner, out)
            else:
                transposed = orientation.transposed(module.module, wanted.shape, out, inner)
                fits = wanted.shape == ((inner, out) if transposed else (out, inner))
        else:
            transposed, fits = False, self._convolution_fits(module, wanted)
        if not fits:
            left, right = self.weights.specs[module.left], self.weights.specs[module.right]
            raise self._shape(left, f"with {list(right.shape)} no delta of {wanted.name!r} {list(wanted.shape)}")
        if transposed:
            return LowRank(module.right, True, module.left, True, scale, rank)
        return LowRank(module.left, False, module.right, False, scale, rank)

    def _check_flat(self, module: ModuleFactors) -> None:
        for name in (module.left, module.right):
            assert name is not None
            if len(self.weights.specs[name].shape) != 2:
                raise self._shape(self.weights.specs[name], "the base tensor has two dimensions")

    def _convolution_fits(self, module: ModuleFactors, wanted: TensorSpec) -> bool:
        """Kernel inside A, ones inside B; a grouped convolution has fewer input channels than A and never fits."""
        assert module.left is not None
        assert module.right is not None
        left, right = self.weights.specs[module.left].shape, self.weights.specs[module.right].shape
        same = len(left) == len(right) == len(wanted.shape) > 2
        return same and prod(left[2:]) == 1 and right[1:] == wanted.shape[1:] and left[0] == wanted.shape[0]

    def _additive(self, module: ModuleFactors, weight: TensorSpec) -> Mapping[str, Entry]:
        """The trained addition to the bias of an adapted module (lora_bias), scaled like the pair."""
        assert module.bias is not None
        name = weight.name.removesuffix("weight") + "bias"
        spec = self.weights.specs[module.bias]
        if not self.config.lora_bias:
            raise self._refuse(
                RejectReason.TENSOR_UNEXPECTED, spec.name, f"lora_bias is off in {self.config.shown}", _SAVE_HINT
            )
        wanted = self.base.specs.get(name)
        if wanted is None or not wanted.dtype.is_float:
            raise self._refuse(
                RejectReason.ADAPTER_TARGET_UNKNOWN, spec.name, f"the base has no float tensor {name!r}", _TARGET_HINT
            )
        if spec.shape != wanted.shape or not spec.dtype.is_float:
            raise self._shape(spec, f"{name!r} has {list(wanted.shape)}")
        return {name: Additive(module.bias, spec, self.config.scale_of(module.module))}

    def _shape(self, spec: TensorSpec, fault: str) -> RejectedError:
        return self._refuse(
            RejectReason.SHAPE_MISMATCH, spec.name, f"has shape {list(spec.shape)}; {fault}", _SAVE_HINT
        )

    def _refuse(self, reason: RejectReason, tensor: str, fault: str, hint: str) -> RejectedError:
        return RejectedError(reason, f"{self.weights.file_of(tensor)}: tensor {tensor!r}: {fault}", hint=hint)


def _is_target(module: str, targets: tuple[str, ...]) -> bool:
    """peft's rule for a list of targets: the name itself, or an ending of it after a dot."""
    return any(module == target or module.endswith(f".{target}") for target in targets)
