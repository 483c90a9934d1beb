"""The requests that the process of a plug-in answers, one method each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mergenode.adapters.tasks.batches import examples_of, expected, first_batches, hand_over, size_of
from mergenode.adapters.tasks.failure import Failure
from mergenode.adapters.tasks.gradients import checked_loss, diagonal_fisher
from mergenode.adapters.tasks.loading import find_task, load_weights, names_by_parameter
from mergenode.adapters.tasks.moments import watch_inputs
from mergenode.adapters.tasks.objective_calls import OBJECTIVE_CALLS
from mergenode.adapters.tasks.refine_calls import REFINE_CALLS, TRIED
from mergenode.adapters.tasks.returned_numbers import numbers
from mergenode.adapters.tasks.round_calls import ROUND_CALLS
from mergenode.adapters.tasks.side_car_file import write_tensors
from mergenode.mixers.symmetry import Symmetry
from mergenode.ports.task import METHODS

_TRIED_EXAMPLES = 2
_OTHER_CALLS = {**ROUND_CALLS, **OBJECTIVE_CALLS, **REFINE_CALLS}


class Calls:
    """One plug-in and its model, which is built once and filled anew for every checkpoint."""

    def __init__(self, entrypoint: str, progress: Callable[[int, int], None]) -> None:
        self._entrypoint = entrypoint
        self.told = progress
        self._task: Any = None
        self._model: nn.Module | None = None
        self.symmetry: Symmetry | None = None
        """Of the model, once it was needed."""

    def answer(self, request: Mapping[str, Any]) -> Any:
        """The result of a request, ready for JSON. Raises Failure, and whatever the plug-in raises."""
        if self._task is None:
            self._task = find_task(self._entrypoint)
        call, place = request["call"], Path(request.get("checkpoint", ""))
        if call == "describe":
            return sorted(filter(self.offers, METHODS))
        if call == "evaluate":
            return self._evaluate(place)
        if call == "gram":
            return self._gram(place, Path(request["out"]), request["batches"])
        if call == "fisher":
            return self._fisher(place, Path(request["out"]), request["batches"])
        if call in _OTHER_CALLS:
            return _OTHER_CALLS[call](self, request)
        if call == "try":
            return self._try(request["method"], place)
        raise Failure("invalid", f"unknown request {call!r}")

    def _evaluate(self, checkpoint: Path) -> dict[str, float]:
        evaluate = self.method("evaluate")
        model, _ = self.filled(checkpoint)
        with torch.no_grad():
            return numbers(evaluate(model), "evaluate()")

    def _gram(self, checkpoint: Path, out: Path, most: int | None) -> dict[str, int]:
        batches = self.method("calibration_batches")
        model, wanted = self.filled(checkpoint)
        run = self.run_through(model)
        grams, rows, number = watch_inputs(model, wanted, self.counted(batches(), most), run)
        write_tensors(out, grams, {"kind": "gram", "batches": str(number), "rows": str(rows)})
        return {"tensors": len(grams), "batches": number, "rows": rows}

    def _fisher(self, checkpoint: Path, out: Path, most: int | None) -> dict[str, int]:
        batches, loss = self.method("calibration_batches"), self.method("loss")
        model, wanted = self.filled(checkpoint)
        examples = chain.from_iterable(map(examples_of, self.counted(batches(), most)))
        fishers, number = diagonal_fisher(model, wanted, examples, loss)
        write_tensors(out, fishers, {"kind": "fisher", "examples": str(number)})
        return {"tensors": len(fishers), "examples": number}

    def _try(self, name: str, checkpoint: Path) -> str:
        """Call one method once, on as little as it can be called on; what came of it, in words."""
        method = self.method(name)
        model, _ = self.filled(checkpoint)
        if name == "build_model":
            return f"{sum(p.numel() for p in model.parameters()):,} parameters, names and shapes of the base"
        if name == "evaluate":
            with torch.no_grad():
                return _spelt(numbers(method(model), "evaluate()"))
        if name == "train":
            return _spelt(numbers(method(model, 0), "train()"))
        if name in TRIED:
            return TRIED[name](self, model)
        batch = next(first_batches(self.method("calibration_batches")(), 1), None)
        if batch is None:
            raise Failure("invalid", "calibration_batches() yields nothing", "It has to yield at least one batch.")
        if name == "loss":
            losses = [float(checked_loss(method(model, one)).detach()) for one in examples_of(batch, _TRIED_EXAMPLES)]
            return _spelt({"loss": sum(losses) / len(losses)})
        with torch.no_grad():
            self.run_through(model)(batch)
        size = size_of(batch)
        return "a first batch" if size is None else f"a first batch of {size} examples"

    def offers(self, name: str) -> bool:
        return callable(getattr(self._task, name, None))

    def run_through(self, model: nn.Module) -> Callable[[Any], object]:
        """Sends a batch through the model: by ``loss`` where there is one, as it knows what a batch is."""
        loss = getattr(self._task, "loss", None)
        return (lambda batch: loss(model, batch)) if callable(loss) else (lambda batch: hand_over(model, batch))

    def counted(self, given: object, most: int | None) -> Iterator[Any]:
        total = expected(given, most)
        for number, batch in enumerate(first_batches(given, most)):
            self.told(number, total)
            yield batch

    def filled(self, checkpoint: Path) -> tuple[nn.Module, Mapping[int, str]]:
        model = self.built()
        return model, names_by_parameter(model, load_weights(model, checkpoint))

    def built(self) -> nn.Module:
        if self._model is None:
            model = self.method("build_model")()
            if not isinstance(model, nn.Module):
                what = f"build_model() returned {type(model).__name__}"
                raise Failure("invalid", what, "It has to return a torch.nn.Module.")
            self._model = model
        return self._model

    def method(self, name: str) -> Callable[..., Any]:
        method = getattr(self._task, name, None)
        if not callable(method):
            hint = f"Add {name}() to the class, or do without: {', '.join(METHODS[name])}."
            raise Failure("missing", f"{type(self._task).__name__} has no method {name}()", hint)
        return method  # type: ignore[no-any-return]  # looked up by name: only the plug-in knows


def _spelt(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in list(scores.items())[:8])
