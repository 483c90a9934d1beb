"""The slope of an objective along a task vector: one streamed pass over base, contribution and gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any

from torch import Tensor

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.contribution import Entry, open_contribution
from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.adapters.engines.local.engine import LocalEngine
from mergenode.adapters.engines.local.incoming import Source, incoming
from mergenode.adapters.engines.local.own_files import reading_own
from mergenode.adapters.engines.local.pipeline import Step, run_ordered
from mergenode.adapters.engines.local.tensors import accumulator_dtype, read_slice, slices
from mergenode.errors import RejectedError, TransientError, TransientReason
from mergenode.gates.evidence import Descent
from mergenode.maths.norms import exact_total, inner, squared_norm
from mergenode.maths.threads import one_thread
from mergenode.ports.engine import Stopped
from mergenode.types import Candidate, TensorSpec


def slope_along(engine: LocalEngine, candidate: Candidate, gradient: Path) -> Descent:
    """<gradient, tau>, ||gradient|| and ||tau||, all fp64 and over the merged tensors; tau without its weight.

    ``gradient``: fp32 safetensors by the base's names, as ``TaskWorker.gradient`` writes them; what is not there is
    zero. Memory: a few slices, whatever the model.

    Raises:
        TransientError: TASK_FAILED: the gradient cannot be read, or has other shapes than the base; as
            ``open_contribution``; CHANGED_WHILE_READING.
        RejectedError: as ``open_contribution``.
        Stopped: the node is stopping.
    """
    path = Path(candidate.location)
    with ExitStack() as stack:
        base_files = stack.enter_context(engine.open_base())
        root = trusted_root(path) if candidate.forced else None
        contribution = stack.enter_context(open_contribution(path, engine.base, root=root, limits=engine.limits))
        try:
            gradients = stack.enter_context(open_weights(gradient, limits=engine.limits))
        except RejectedError as error:
            raise TransientError(TransientReason.TASK_FAILED, f"the gradient: {error.message}") from error
        work = _Slope(
            base=engine.base, base_files=base_files, source=Source(contribution, 1.0, candidate.name),
            gradients=gradients,
        )  # fmt: skip
        with one_thread():
            steps = _until(engine, work.steps())
            run_ordered(steps, threads=engine.resources.threads, budget_bytes=engine.available_bytes())
        contribution.assert_unchanged()
    return work.descent()


def _until(engine: LocalEngine, steps: Iterator[Step]) -> Iterator[Step]:
    for step in steps:
        if engine.stop():
            raise Stopped("a slope was put down")
        yield step


@dataclass(slots=True, kw_only=True)
class _Slope:
    base: BaseModel
    base_files: WeightFiles
    source: Source
    gradients: WeightFiles
    products: list[float] = field(default_factory=list)
    gradient_squares: list[float] = field(default_factory=list)
    delta_squares: list[float] = field(default_factory=list)

    def descent(self) -> Descent:
        return Descent(
            inner=exact_total(self.products),
            gradient_norm=sqrt(exact_total(self.gradient_squares)),
            delta_norm=sqrt(exact_total(self.delta_squares)),
        )

    def steps(self) -> Iterator[Step]:
        for spec in self.base.specs.values():
            if not spec.dtype.is_float or spec.name in self.base.aliases:
                continue
            entry, slope = self.source.entry(spec.name), self._gradient_of(spec)
            if entry is None and slope is None:
                continue
            wide = accumulator_dtype(spec).itemsize
            factors = self.source.factor_bytes(entry, wide) if entry is not None else 0
            for bounds in slices(spec, whole=False):
                yield Step(
                    need_bytes=(bounds[1] - bounds[0]) * (2 * spec.dtype.size + 4 * wide) + factors,
                    read=partial(self._read, spec, entry, slope, bounds),
                    compute=partial(self._compute, spec, entry, bounds),
                    write=self._add,
                )

    def _gradient_of(self, spec: TensorSpec) -> TensorSpec | None:
        """The gradient of a tensor, under whichever of its names the plug-in's model has for it."""
        names = [spec.name, *(alias for alias, name in self.base.aliases.items() if name == spec.name)]
        found = next((self.gradients.specs[name] for name in names if name in self.gradients.specs), None)
        if found is not None and found.shape != spec.shape:
            raise TransientError(
                TransientReason.TASK_FAILED,
                f"the gradient of {spec.name!r} has shape {list(found.shape)}, the base has {list(spec.shape)}",
                hint="build_model() of the task plug-in makes another model than the base.",
            )
        return found

    def _read(
        self, spec: TensorSpec, entry: Entry | None, slope: TensorSpec | None, bounds: tuple[int, int]
    ) -> dict[str, Any]:
        box: dict[str, Any] = {}
        if slope is not None:
            box["gradient"] = read_slice(self.gradients, slope, *bounds)[0]
        if entry is not None:
            with reading_own("base"):
                box["base"] = read_slice(self.base_files, spec, *bounds)[0]
            box["parts"] = self.source.read(entry, *bounds)
        return box

    def _compute(
        self, spec: TensorSpec, entry: Entry | None, bounds: tuple[int, int], box: dict[str, Any]
    ) -> tuple[float, float, float]:
        """The inner product and both squares of one slice."""
        gradient: Tensor | None = box.pop("gradient", None)
        square = 0.0 if gradient is None else squared_norm(gradient)
        if entry is None:
            return 0.0, square, 0.0
        base = box.pop("base").to(accumulator_dtype(spec))
        delta = incoming(spec, entry, box.pop("parts"), base, bounds, 1.0, first=False).delta
        product = 0.0 if gradient is None else inner(gradient, delta)
        return product, square, squared_norm(delta)

    def _add(self, found: tuple[float, float, float]) -> None:
        for sums, value in zip((self.products, self.gradient_squares, self.delta_squares), found, strict=True):
            sums.append(value)
