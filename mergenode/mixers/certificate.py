"""A derived symmetry put to the test, so that a wrong rule can never half-align a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from mergenode.mixers.propagation import module_path
from mergenode.mixers.symmetry import Permutations, Symmetry, reorder
from mergenode.mixers.tracing import refusal

TOLERANCE = 1e-5
"""Of the largest value of an operation, in fp64. Code that rounds to fp32 on the way stays below, a unit in the wrong
place far above."""

NATIVE_TOLERANCE = 1e-3
"""The same for models whose code does not run in fp64."""


def certify(symmetry: Symmetry, model: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Permutes a copy with random weights at random; every operation has to give the permuted values.

    Weights are random so that fresh normalisation layers, all ones and zeros, prove something. In evaluation mode,
    without gradients.

    Raises:
        UsageError: they differ; names the module of the first operation that does.
    """
    generator = torch.Generator().manual_seed(0)
    state = _shaken(model, symmetry, generator)
    permutations = symmetry.random(generator)
    networks = [symmetry.network(each) for each in (state, symmetry.permuted(state, permutations))]
    values, tolerance = _Values(networks[0].double()), TOLERANCE
    examples: Sequence[Tensor] = [each.double() if each.is_floating_point() else each for each in inputs]
    try:
        values.run(*examples)
    except RuntimeError:
        values, examples, tolerance = _Values(symmetry.network(state)), inputs, NATIVE_TOLERANCE
        values.run(*examples)
    else:
        networks[1].double()
    _Comparison(networks[1], symmetry, permutations, values.seen, tolerance).run_on(model, examples)


def _shaken(model: nn.Module, symmetry: Symmetry, generator: torch.Generator) -> dict[str, Tensor]:
    """Random weights; one tensor under several names stays one. Other buffers are constants of the model's code."""
    made: dict[int, Tensor] = {}
    state = model.state_dict(keep_vars=True)
    for name, tensor in state.items():
        if id(tensor) not in made:
            made[id(tensor)] = tensor.detach().clone()
            if tensor.is_floating_point() and (name in symmetry.learned or name.endswith(STATISTICS)):
                noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                noise = noise.abs() if name.endswith("running_var") else noise
                made[id(tensor)] += (noise * (0.1 + 0.5 * float(tensor.abs().mean()))).to(tensor.dtype)
    return {name: made[id(tensor)] for name, tensor in state.items()}


STATISTICS = ("running_mean", "running_var")
"""Buffers that normalisation layers gather; other buffers are constants of the model's code."""


class _Values(fx.Interpreter):
    """Runs a program and keeps what every operation computed: that of an example."""

    def __init__(self, program: fx.GraphModule) -> None:
        super().__init__(program)
        self.extra_traceback = False
        self.seen: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.seen[n.name] = result.clone()
        return result


class _Comparison(fx.Interpreter):
    """Runs the permuted program against the values of the other. ``differs``: the first operation that does."""

    def __init__(
        self,
        program: fx.GraphModule,
        symmetry: Symmetry,
        permutations: Permutations,
        expected: dict[str, Tensor],
        tolerance: float,
    ) -> None:
        super().__init__(program)
        self._symmetry, self._permutations, self._expected = symmetry, permutations, expected
        self._tolerance = tolerance
        self.differs: fx.Node | None = None

    def run_on(self, model: nn.Module, inputs: Sequence[Tensor]) -> None:
        self.run(*inputs)
        if self.differs is not None:
            path = module_path(self.differs)
            why = f"computes something else when its units are permuted ({self.differs.name!r})"
            raise refusal(path, model.get_submodule(path), why)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if self.differs is None and isinstance(result, Tensor) and n.name in self._symmetry.values:
            expected = reorder(self._expected[n.name], self._symmetry.values[n.name], self._permutations)
            if not _agree(expected, result, self._tolerance):
                self.differs = n
        return result


def _agree(expected: Tensor, given: Tensor, tolerance: float) -> bool:
    if not given.is_floating_point():
        return bool((expected == given).all())
    finite = expected.isfinite()
    if not bool((finite == given.isfinite()).all()):
        return False
    largest = float(expected[finite].abs().max()) if bool(finite.any()) else 0.0
    return bool(((expected - given)[finite].abs() <= tolerance * largest + 1e-30).all())
