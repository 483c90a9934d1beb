"""The plug-in's side of a round without its process: the same requests, answered here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mergenode.adapters.tasks.calls import Calls
from mergenode.adapters.tasks.failure import Failure
from mergenode.adapters.tasks.round_worker import RoundWorker
from mergenode.errors import TransientError, TransientReason
from mergenode.ports.observer import Observer
from mergenode.ports.task import TaskOptions


class InProcess(RoundWorker):
    """A ``RoundWorker`` whose requests go to ``Calls`` directly. ``path`` of the options has to be on ``sys.path``."""

    def __init__(
        self, options: TaskOptions, *, batches: int | None, seconds: float, stop: Callable[[], bool] = lambda: False,
        observer: Observer | None = None,
    ) -> None:  # fmt: skip
        super().__init__(options, batches=batches, seconds=seconds, stop=stop, observer=observer)
        self._calls = Calls(options.entrypoint or "", lambda done, total: None)

    def _ask(self, request: Mapping[str, Any], progress: object = None, *, seconds: float | None = None) -> Any:
        try:
            return self._calls.answer(request)
        except Failure as error:
            raise TransientError(TransientReason.TASK_FAILED, str(error), hint=error.hint) from error
