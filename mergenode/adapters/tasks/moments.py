"""Second moments of what the linear layers of a model see: the Grams of a side-car."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from mergenode.adapters.tasks.failure import Failure


class InputMoments:
    """Hooks on linear layers that add up x^T x of their inputs, in fp32; use it in ``with``.

    Layers are known by their weights: ``wanted`` maps the id of a parameter to the name it has in the checkpoint. A
    layer whose weight is also an embedding is left out: its input says nothing about the embedding.
    """

    def __init__(self, model: nn.Module, wanted: Mapping[int, str]) -> None:
        self._stack = ExitStack()
        self.sums: dict[str, Tensor] = {}
        self.rows: dict[str, int] = {}
        tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        for module in model.modules():
            if isinstance(module, nn.Linear) and id(module.weight) in wanted and id(module.weight) not in tables:
                self._watch(module, wanted[id(module.weight)])

    def __enter__(self) -> InputMoments:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _watch(self, module: nn.Linear, name: str) -> None:
        def look(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            seen = arguments[0] if arguments else keywords["input"]
            rows = seen.detach().reshape(-1, seen.shape[-1]).float()
            if name not in self.sums:
                self.sums[name] = rows.new_zeros((rows.shape[1], rows.shape[1]))
            self.sums[name].addmm_(rows.mT, rows)
            self.rows[name] = self.rows.get(name, 0) + len(rows)

        self._stack.callback(module.register_forward_pre_hook(look, with_kwargs=True).remove)

    def grams(self) -> dict[str, Tensor]:
        """Mean of x x^T per weight name, (d_in, d_in), exactly symmetric. Raises Failure: ``invalid``."""
        if not self.sums:
            hint = "Only torch.nn.Linear layers that the model itself calls can be watched."
            raise Failure("invalid", "no linear layer of the checkpoint saw any input", hint)
        found = {}
        for name, total in self.sums.items():
            mean = total / max(1, self.rows[name])
            if not bool(mean.isfinite().all()):
                raise Failure("invalid", f"the inputs of {name!r} are not finite", "Look at the calibration batches.")
            found[name] = (mean + mean.mT).div_(2)
        return found


def watch_inputs(
    model: nn.Module, wanted: Mapping[int, str], batches: Iterable[Any], run: Callable[[Any], object]
) -> tuple[dict[str, Tensor], int, int]:
    """Grams by weight name, most rows that a layer saw, number of batches; ``run`` sends one batch through."""
    number = 0
    with InputMoments(model, wanted) as moments, torch.no_grad():
        for number, batch in enumerate(batches, start=1):  # noqa: B007 - counted for afterwards
            run(batch)
        return moments.grams(), max(moments.rows.values(), default=0), number
