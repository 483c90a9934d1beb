"""The requests that the process of a plug-in answers, one method each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mergenode.adapters.tasks.failure import Failure
from mergenode.adapters.tasks.loading import find_task, load_weights
from mergenode.ports.task import METHODS

_MOST_SCORES = 1000
_NAME_CHARACTERS = 200


class Calls:
    """One plug-in and its model, which is built once and filled anew for every checkpoint."""

    def __init__(self, entrypoint: str, progress: Callable[[int, int], None]) -> None:
        self._entrypoint = entrypoint
        self._progress = progress
        self._task: Any = None
        self._model: nn.Module | None = None

    def answer(self, request: Mapping[str, Any]) -> Any:
        """The result of a request, ready for JSON. Raises Failure, and whatever the plug-in raises."""
        if self._task is None:
            self._task = find_task(self._entrypoint)
        name = request["call"]
        if name == "describe":
            return sorted(method for method in METHODS if callable(getattr(self._task, method, None)))
        if name == "evaluate":
            return self._evaluate(Path(request["checkpoint"]))
        raise Failure("invalid", f"unknown request {name!r}")

    def _evaluate(self, checkpoint: Path) -> dict[str, float]:
        evaluate = self._method("evaluate")
        model = self._filled(checkpoint)
        with torch.no_grad():
            return numbers(evaluate(model), "evaluate()")

    def _filled(self, checkpoint: Path) -> nn.Module:
        model = self._built()
        load_weights(model, checkpoint)
        return model

    def _built(self) -> nn.Module:
        if self._model is None:
            model = self._method("build_model")()
            if not isinstance(model, nn.Module):
                what = f"build_model() returned {type(model).__name__}"
                raise Failure("invalid", what, "It has to return a torch.nn.Module.")
            self._model = model
        return self._model

    def _method(self, name: str) -> Callable[..., Any]:
        method = getattr(self._task, name, None)
        if not callable(method):
            hint = f"Add {name}() to the class, or switch off what needs it: {', '.join(METHODS[name])}."
            raise Failure("missing", f"{type(self._task).__name__} has no method {name}()", hint)
        return method  # type: ignore[no-any-return]  # looked up by name: only the plug-in knows


def numbers(returned: object, what: str) -> dict[str, float]:
    """The finite numbers by name that a plug-in returned. Raises Failure: ``invalid``."""
    if not isinstance(returned, Mapping) or not 0 < len(returned) <= _MOST_SCORES:
        raise Failure("invalid", f"{what} returned {_shown(returned)}", "It has to return numbers by name.")
    scores = {}
    for name, value in returned.items():
        if not isinstance(name, str) or not 0 < len(name) <= _NAME_CHARACTERS:
            raise Failure("invalid", f"{what} named a number {_shown(name)}", "Names are texts.")
        try:
            scores[name] = float(value)
        except (TypeError, ValueError) as error:
            raise Failure(
                "invalid", f"{what} returned {_shown(value)} for {name!r}", "It has to be a number."
            ) from error
        if not isfinite(scores[name]):
            raise Failure("invalid", f"{what} returned {scores[name]} for {name!r}", "Scores have to be finite.")
    return scores


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)} entries"
    return f"{type(value).__name__} {value!r:.80}"
