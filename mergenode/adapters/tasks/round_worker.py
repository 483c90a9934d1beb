"""A worker that trains, matches and measures for a round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mergenode.adapters.tasks.asking import PluginWorker
from mergenode.ports.observer import Observer
from mergenode.ports.rounds import Trained
from mergenode.ports.task import TaskOptions


class RoundWorker(PluginWorker):
    """Implements ports.rounds.Trainer. ``batches``: at most so many calibration batches; ``seconds``: for a training.

    Whether ``methods`` answers is remembered: a plug-in does not change while it runs.
    """

    def __init__(
        self, options: TaskOptions, *, batches: int | None, seconds: float, stop: Callable[[], bool] = lambda: False,
        observer: Observer | None = None,
    ) -> None:  # fmt: skip
        super().__init__(options, stop=stop, observer=observer)
        self._batches = batches
        self._seconds = seconds
        self._methods: frozenset[str] | None = None

    def methods(self) -> frozenset[str]:
        if self._methods is None:
            self._methods = super().methods()
        return self._methods

    def train(self, model: Path, round: int, target: Path) -> Trained:
        request = {"call": "train", "checkpoint": str(model), "round": round, "out": str(target)}
        return Trained(self._ask(request, seconds=self._seconds))

    def align(
        self, own: Path, others: Mapping[str, Path], targets: Mapping[str, Path], matching: str
    ) -> Mapping[str, str]:
        request = {
            "call": "align", "checkpoint": str(own), "matching": matching, "batches": self._batches,
            "others": {name: str(path) for name, path in others.items()},
            "outs": {name: str(path) for name, path in targets.items()},
        }  # fmt: skip
        refused: dict[str, str] = self._ask(request)
        return refused

    def recalibrate(self, model: Path, target: Path) -> int:
        request: dict[str, Any] = {"call": "recalibrate", "checkpoint": str(model), "out": str(target)}
        return int(self._ask({**request, "batches": self._batches}))

    def losses(self, models: Sequence[Path]) -> Sequence[float]:
        request = {"call": "losses", "checkpoints": [str(model) for model in models], "batches": self._batches}
        return [float("nan") if loss is None else float(loss) for loss in self._ask(request)]
