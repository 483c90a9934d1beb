"""From settings to the parts that work on a state directory, without the loop around them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mergenode.adapters.checkpoints.base import BaseModel, describe_base
from mergenode.adapters.checkpoints.base_cache import base_of
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.durable import disk_errors
from mergenode.adapters.engines.local.engine import LocalEngine, Resources
from mergenode.adapters.engines.local.protection import Protection, describe_protection
from mergenode.adapters.engines.local.restate import LocalRestater
from mergenode.adapters.engines.local.weighing import LocalWeigher
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.publishers.folder import FolderPublisher
from mergenode.adapters.store.generations import FolderGenerations
from mergenode.adapters.store.lock import StateLock
from mergenode.adapters.store.sqlite_ledger import SqliteLedger
from mergenode.adapters.tasks.worker import TaskWorker
from mergenode.bootstrap.gatekeeping import gatekeeper_of
from mergenode.bootstrap.scoring import scorer_of
from mergenode.daemon.contribute import Line
from mergenode.daemon.lifecycle import Lifecycle
from mergenode.daemon.recover import initialise, recover
from mergenode.errors import FatalError, MergenodeError
from mergenode.ledger.records import Initialised
from mergenode.maths.two_model_fit import WeightRule
from mergenode.methods import build_method
from mergenode.methods.contract import Method
from mergenode.methods.protected import protected
from mergenode.methods.scale_search import SearchLimits
from mergenode.ports.clock import Clock
from mergenode.ports.engine import Evaluator, Stopped
from mergenode.ports.ledger_store import LedgerStore
from mergenode.ports.observer import Observer, Progress
from mergenode.settings import Settings
from mergenode.tracing.spans import SILENT, Tracer
from mergenode.types import DType

LEDGER = "ledger.sqlite"
BASE_CACHE = "base.json"

PUBLISH_DTYPES: Mapping[str, DType | None] = {
    "auto": None,
    "float32": DType.F32,
    "bfloat16": DType.BF16,
    "float16": DType.F16,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What commands need of a node, without the loop around it."""

    settings: Settings
    base: BaseModel
    method: Method
    engine: LocalEngine
    line: Line
    generations: FolderGenerations


def limits_of(settings: Settings) -> Limits:
    """The bounds on what a checkpoint may be."""
    validation = settings.validation
    limits = Limits(header_bytes=validation.max_header, tensors=validation.max_tensors)
    bound = validation.max_checkpoint
    return limits if bound is None else replace(limits, checkpoint_bytes=bound)


def method_of(settings: Settings) -> Method:
    """The merge method that the settings name."""
    return build_method(settings.method.name, settings.method.options)


def max_relative_norm_of(settings: Settings) -> float:
    """The longest task vector that is accepted, relative to the base."""
    return settings.validation.max_relative_norm or float("inf")


def threads_of(settings: Settings) -> int:
    """Compute threads: as set, or the processors this process may use."""
    return settings.engine.threads or len(os.sched_getaffinity(0))


def base_model(settings: Settings, observer: Observer) -> BaseModel:
    """Describe the base, from the cache in the state directory when its files did not change.

    Raises FatalError when the base cannot be used; the message is that of a refused checkpoint.
    """
    state, limits = settings.node.state, limits_of(settings)
    try:
        if not state.is_dir():  # a command beside a node that never ran: nothing to remember it in
            return describe_base(settings.base, limits=limits)
        with disk_errors(state):
            return base_of(settings.base, cache=state / BASE_CACHE, limits=limits, observer=observer)
    except MergenodeError as error:
        if isinstance(error, FatalError):
            raise
        hint = error.hint or "Point `base` at a readable checkpoint."
        raise FatalError(f"base {settings.base}: {error.message}", hint=hint) from error


@contextmanager
def open_state(settings: Settings) -> Iterator[SqliteLedger]:
    """Lock the state directory and open its ledger. Raises FatalError when another process works on it."""
    state = settings.node.state
    with disk_errors(state):
        state.mkdir(parents=True, exist_ok=True)
    with StateLock(state, node=settings.node.name):
        ledger = SqliteLedger(state / LEDGER)
        try:
            yield ledger
        finally:
            ledger.close()


class _Interruptible(FanOut):
    """An observer whose watched work is put down when the node is asked to stop: nothing of it would be kept."""

    def __init__(self, observer: Observer, stop: Callable[[], bool]) -> None:
        super().__init__([observer])
        self._stop = stop

    def progress(self, progress: Progress) -> None:
        super().progress(progress)
        if not progress.over and self._stop():
            raise Stopped(f"while reading {progress.subject}")


def engine_of(
    settings: Settings,
    generations: FolderGenerations,
    observer: Observer,
    stop: Callable[[], bool] = lambda: False,
) -> LocalEngine:
    """The local engine over the given folders. Raises FatalError when base or method cannot be used."""
    base = base_model(settings, observer)
    protections = protections_of(settings, base)
    return LocalEngine(
        base_path=settings.base,
        base=base,
        method=protected(method_of(settings), [each.terms for each in protections]),
        protections=protections,
        folding=generations.folding,
        generations=generations.statistics,
        resources=Resources(
            memory_limit=settings.engine.memory_limit,
            threads=threads_of(settings),
            device=settings.engine.device,
        ),
        publish_dtype=PUBLISH_DTYPES[settings.publish.dtype],
        limits=limits_of(settings),
        stop=stop,
        evaluator=evaluator_of(settings, stop, observer),
        search=search_of(settings),
    )


def protections_of(settings: Settings, base: BaseModel) -> tuple[Protection, ...]:
    """What the settings protect, read once. Raises FatalError when a file of it cannot be used."""
    found = []
    for asked in settings.protect:
        terms = asked.model_dump()
        for what, path in (("fisher", asked.fisher), ("checkpoint", asked.checkpoint)):
            if path is not None and not path.exists():
                raise FatalError(
                    f"protection {asked.name}: there is no {what} at {path}",
                    hint="`mergenode sidecar BASE --task MODULE:CLASS --fisher` writes a Fisher; see docs/protect.md.",
                )
        try:
            found.append(describe_protection(Protection(**terms), base, limits_of(settings)))
        except MergenodeError as error:
            if isinstance(error, FatalError):
                raise
            raise FatalError(error.message, hint=error.hint) from error
    return tuple(found)


def search_of(settings: Settings) -> SearchLimits:
    """The bounds of a search for the scale."""
    search = settings.publish.search
    return SearchLimits(lowest=search.lowest, highest=search.highest, evaluations=search.evaluations)


def evaluator_of(settings: Settings, stop: Callable[[], bool], observer: Observer | None = None) -> Evaluator | None:
    """What scores candidates: the task plug-in, in a process of its own for the time of one search; None without."""
    task = settings.task
    if task.entrypoint is None:
        return None

    @contextmanager
    def evaluating() -> Iterator[Callable[[Path], Mapping[str, float]]]:
        with TaskWorker(task, stop=stop, observer=observer) as worker:
            yield worker.evaluate

    return evaluating


def weigher_of(settings: Settings, engine: LocalEngine) -> LocalWeigher | None:
    """What finds the weights of contributions; None: they are as given."""
    weigh = settings.weigh
    if weigh.name == "fixed":
        return None
    rule = WeightRule(
        lowest=weigh.lowest,
        highest=weigh.highest,
        evaluations=weigh.evaluations,
        importance=None if isinstance(weigh.objective, str) else weigh.objective,
        max_fall=weigh.max_fall,
    )
    return LocalWeigher(engine, engine.evaluator, rule)


def build_parts(
    settings: Settings, ledger: LedgerStore, observer: Observer, lifecycle: Lifecycle, clock: Clock,
    tracer: Tracer = SILENT,
) -> Parts:  # fmt: skip
    """Everything that works on a locked state directory. Raises FatalError when base or method cannot be used."""
    generations = FolderGenerations(settings.node.state, every=settings.snapshots.every, keep=settings.snapshots.keep)
    generations.prepare()
    reading = _Interruptible(observer, lambda: lifecycle.draining)

    def stop() -> bool:
        observer.heartbeat()  # a call of a plug-in has a time limit of its own, and several in a row are no stall
        return lifecycle.abandon()

    engine = engine_of(settings, generations, reading, stop)
    engine.tracer = tracer
    dtype = engine.publish_dtype
    weigher = weigher_of(settings, engine)
    if weigher is not None:
        weigher.clear()
    publisher = FolderPublisher(settings.publish.path, settings.base)
    line = Line(
        engine=engine,
        ledger=ledger,
        generations=generations,
        publisher=publisher,
        restater=LocalRestater(engine),
        observer=observer,
        clock=clock,
        retractable=engine.method.retractable,
        max_relative_norm=max_relative_norm_of(settings),
        publish_dtype=dtype.value if dtype else None,
        keep=settings.publish.keep,
        weigher=weigher,
        gatekeeper=gatekeeper_of(settings, engine, ledger, publisher, reading, stop),
        tracer=tracer,
        scorer=scorer_of(settings, observer, stop),
    )
    return Parts(
        settings=settings, base=engine.base, method=engine.method, engine=engine, line=line, generations=generations
    )


def origin_for(parts: Parts) -> Initialised:
    """The first fact of a new ledger."""
    return Initialised(
        time=parts.line.clock.now(),
        ledger_id=secrets.token_hex(16),
        base=parts.base.digest,
        method=parts.method.name,
        options=dict(parts.method.options),
    )


def start(parts: Parts) -> None:
    """First facts and recovery: a moment before the loop, with the lock held."""
    initialise(parts.line, origin_for(parts))
    recover(parts.line)
    parts.engine.check_memory()
