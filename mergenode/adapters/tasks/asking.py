"""How a task plug-in is asked: in a process of its own, and whatever comes of it is an answer or a clear error."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.tasks.lines import BrokenLine
from mergenode.adapters.tasks.process import PluginProcess, Silent
from mergenode.errors import FatalError, TransientError, TransientReason, UsageError
from mergenode.ports.activity import ActivityKind
from mergenode.ports.observer import Observer
from mergenode.ports.task import METHODS, TaskOptions
from mergenode.ports.told import Told

BatchProgress = Callable[[int, int], None]
"""Told (batches done, batches in all or 0)."""

_PERMANENT = ("entrypoint", "missing", "unfit", "checkpoint")
_TAIL_CHARACTERS = 300
_ABOUT = {
    "describe": "its start",
    "gradient": "the gradient of loss()",
    "segment": "loss() between two models",
    "by_batch": "loss() batch by batch",
    "probe": "outputs() for probes()",
    "refine": "the training of a refinement",
}
"""Requests that are not named after a method of the plug-in."""
_KINDS: Mapping[str, ActivityKind] = {
    "gradient": ActivityKind.OBJECTIVE,
    "segment": ActivityKind.OBJECTIVE,
    "by_batch": ActivityKind.OBJECTIVE,
    "losses": ActivityKind.OBJECTIVE,
    "evaluate": ActivityKind.EVALUATION,
    "train": ActivityKind.TRAINING,
    "refine": ActivityKind.TRAINING,
}
_ALONE_HINT = "Run `mergenode task check` to see it alone."
_OUT_OF_MEMORY = re.compile(r"MemoryError|allocate memory|out of memory")
_MEMORY_HINT = (
    "It needs more memory than task.memory_limit (sidecar: --memory-limit) allows: raise it, or use smaller batches."
)


def unheard(done: int, total: int) -> None:
    """Progress nobody looks at."""


class PluginWorker:
    """Asks the plug-in of the settings' section ``task``. Close it, or use it in ``with``; for one thread at a time.

    The process is started by the first call and kept for the next ones; after any failure it is ended with all that
    it started, and the next call begins with a new one. Nothing that a plug-in does (raise, hang, leak, print, exit,
    kill itself) does more to the node than the errors below.

    Errors of every call:
        UsageError: the settings name no plug-in.
        FatalError: there is no such class, it lacks the method, its model does not have the checkpoint's names and
            shapes, or the checkpoint cannot be read: the same again until somebody changes something.
        TransientError: TASK_FAILED: the plug-in raised, took longer than ``timeout``, more memory than
            ``memory_limit``, ended its process, or returned no finite numbers.
        Stopped: ``stop`` asked for it.
    """

    def __init__(
        self, options: TaskOptions, *, stop: Callable[[], bool] = lambda: False, observer: Observer | None = None
    ) -> None:
        """``observer``: told while the plug-in trains, scores or computes the objective."""
        self._options = options
        self._stop = stop
        self._observer: Observer = observer or FanOut([])
        self._process: PluginProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process. Idempotent; a later call starts a new one."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def methods(self) -> frozenset[str]:
        """Names of the methods that the plug-in offers, of ``ports.task.METHODS``."""
        request = {"call": "describe"}
        answer = self._ask(request)
        if not isinstance(answer, list):
            raise self._forged(request)
        return frozenset(METHODS).intersection(name for name in answer if isinstance(name, str))

    def evaluate(self, checkpoint_dir: Path) -> Mapping[str, float]:
        """Scores of a full checkpoint (directory or bare file): finite numbers by name, never empty."""
        request = {"call": "evaluate", "checkpoint": str(checkpoint_dir.absolute())}
        answer = self._ask(request)
        if not isinstance(answer, dict) or not answer:
            raise self._forged(request)
        return {name: self._number(request, score) for name, score in answer.items()}

    def _ask(
        self, request: Mapping[str, Any], progress: BatchProgress = unheard, *, seconds: float | None = None
    ) -> Any:
        """The result of a request, within ``seconds`` (None: ``timeout``)."""
        answered = False
        try:
            with self._told(request) as told:

                def heard(done: int, total: int) -> None:
                    told.at(done, total)
                    progress(done, total)

                answer = self._answer(request, heard, self._options.timeout if seconds is None else seconds)
            answered = "result" in answer
        finally:
            if not answered:
                self.close()
        if not answered:
            self._refuse(_named(request), answer)
        return answer["result"]

    def _told(self, request: Mapping[str, Any]) -> Told:
        """What the observer hears of a request; of short ones (a description, a trial) it hears nothing."""
        kind = _KINDS.get(str(request["call"]))
        if kind is None:
            return Told(FanOut([]), "", "")
        subject = f"round {request['round']}" if "round" in request else _named(request)
        return Told(self._observer, kind, subject, step="batches")

    def _answer(self, request: Mapping[str, Any], progress: BatchProgress, seconds: float) -> dict[str, Any]:
        if self._options.entrypoint is None:
            raise UsageError(
                "there is no task plug-in",
                hint="Name its class: task: {entrypoint: package.module:Class} in the settings; see docs/tasks.md.",
            )
        if self._process is None:
            self._process = PluginProcess(self._options)
        try:
            return self._process.ask(request, seconds, progress, self._stop)
        except Silent:
            raise self._failed(
                f"{_named(request)} took longer than {seconds:g} seconds",
                "Give it less data, or raise task.timeout (sidecar: --timeout).",
            ) from None
        except BrokenLine as error:
            raise self._failed(f"{_named(request)} answered with {error}", _ALONE_HINT) from error
        except EOFError:
            raise self._ended(_named(request)) from None

    def _number(self, request: Mapping[str, Any], answer: object) -> float:
        """An answer that has to be a finite number: the plug-in shares the process that wrote it."""
        if isinstance(answer, bool) or not isinstance(answer, int | float) or not isfinite(answer):
            raise self._forged(request)
        return float(answer)

    def _forged(self, request: Mapping[str, Any]) -> TransientError:
        self.close()  # whose answer comes next is not known either
        return self._failed(f"{_named(request)} answered with something else than it was asked for", _ALONE_HINT)

    def _ended(self, call: str) -> TransientError:
        assert self._process is not None
        self._process.settle()
        status = self._process.end()
        how = f"with status {status}" if status >= 0 else f"by signal {signal.Signals(-status).name}"
        said = self._process.said().splitlines()
        return self._failed(
            f"its process ended {how} during {call}" + (f": {said[-1][-_TAIL_CHARACTERS:]}" if said else ""),
            "It may have run out of memory: see task.memory_limit.",
        )

    def _failed(self, what: str, hint: str) -> TransientError:
        return TransientError(
            TransientReason.TASK_FAILED, f"task plug-in {self._options.entrypoint}: {what}", hint=hint
        )

    def _refuse(self, call: str, answer: Mapping[str, Any]) -> NoReturn:
        message, hint = str(answer.get("message", "no reason given")), str(answer.get("hint", ""))
        if answer.get("failed") in _PERMANENT:
            raise FatalError(f"task plug-in {self._options.entrypoint}: {message}", hint=hint)
        if answer.get("failed") == "raised":
            message = f"{call}: {message}"
            hint = _MEMORY_HINT if _OUT_OF_MEMORY.search(message) else _ALONE_HINT
        raise self._failed(message, hint)


def _named(request: Mapping[str, Any]) -> str:
    """The method of the plug-in that a request is about, for messages."""
    call = str(request["call"])
    return _ABOUT.get(call, str(request.get("method", call)))
