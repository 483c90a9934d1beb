"""The composition root: settings become adapters, adapters become a loop. The only module that knows everybody."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from mergenode.adapters.checkpoints.base import BaseModel, base_of
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.clock import SystemClock
from mergenode.adapters.durable import disk_errors
from mergenode.adapters.engines.local.engine import LocalEngine, Resources
from mergenode.adapters.http.app import create_app
from mergenode.adapters.http.live import LiveStatus
from mergenode.adapters.http.server import HttpServer
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.observers.log import LogObserver
from mergenode.adapters.observers.prometheus import PrometheusObserver
from mergenode.adapters.publishers.folder import FolderPublisher
from mergenode.adapters.registries import open_registry
from mergenode.adapters.registries.requests import RequestsRegistry
from mergenode.adapters.registries.watch import open_watch
from mergenode.adapters.store.generations import FolderGenerations
from mergenode.adapters.store.lock import StateLock
from mergenode.adapters.store.sqlite_ledger import SqliteLedger, open_reader
from mergenode.daemon.contribute import Line
from mergenode.daemon.lifecycle import Lifecycle
from mergenode.daemon.loop import Loop
from mergenode.daemon.recover import initialise, recover
from mergenode.errors import FatalError, MergenodeError
from mergenode.ledger.actions import Stop
from mergenode.ledger.records import Initialised
from mergenode.ledger.view import Policy
from mergenode.methods import build_method
from mergenode.methods.contract import Method
from mergenode.ports.clock import Clock
from mergenode.ports.ledger_store import LedgerStore
from mergenode.ports.observer import Observer
from mergenode.ports.registry import Registry
from mergenode.settings import Settings
from mergenode.types import DType

LEDGER = "ledger.sqlite"
BASE_CACHE = "base.json"
REQUESTS = "ingest"
"""The registry of what the operator asked for."""

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
    return Limits(
        header_bytes=validation.max_header,
        tensors=validation.max_tensors,
        checkpoint_bytes=validation.max_checkpoint,
    )


def method_of(settings: Settings) -> Method:
    """The merge method that the settings name."""
    return build_method(settings.method.name, settings.method.options)


def threads_of(settings: Settings) -> int:
    """Compute threads: as set, or the processors this process may use."""
    return settings.engine.threads or len(os.sched_getaffinity(0))


def base_model(settings: Settings, observer: Observer) -> BaseModel:
    """Describe the base, from the cache in the state directory when its files did not change.

    Raises FatalError when the base cannot be used; the message is that of a refused checkpoint.
    """
    try:
        with disk_errors(settings.node.state):
            return base_of(
                settings.base, cache=settings.node.state / BASE_CACHE, limits=limits_of(settings), observer=observer
            )
    except MergenodeError as error:
        if isinstance(error, FatalError):
            raise
        raise FatalError(f"base: {error.message}", hint=error.hint or "Point `base` at a readable checkpoint.") from error


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


def build_parts(
    settings: Settings, ledger: LedgerStore, observer: Observer, lifecycle: Lifecycle, clock: Clock
) -> Parts:
    """Everything that works on a locked state directory. Raises FatalError when base or method cannot be used."""
    generations = FolderGenerations(settings.node.state)
    generations.prepare()
    method = method_of(settings)
    base = base_model(settings, observer)
    dtype = PUBLISH_DTYPES[settings.publish.dtype]
    engine = LocalEngine(
        base_path=settings.base,
        base=base,
        method=method,
        folding=generations.folding,
        generations=generations.statistics,
        resources=Resources(
            memory_limit=settings.engine.memory_limit,
            threads=threads_of(settings),
            device=settings.engine.device,
        ),
        publish_dtype=dtype,
        limits=limits_of(settings),
        stop=lifecycle.abandon,
    )
    line = Line(
        engine=engine,
        ledger=ledger,
        generations=generations,
        publisher=FolderPublisher(settings.publish.path, settings.base),
        observer=observer,
        clock=clock,
        max_relative_norm=settings.validation.max_relative_norm or float("inf"),
        publish_dtype=dtype.value if dtype else None,
        keep=settings.publish.keep,
    )
    return Parts(settings=settings, base=base, method=method, engine=engine, line=line, generations=generations)


def start(parts: Parts) -> None:
    """First facts and recovery: a moment before the loop, with the lock held."""
    origin = Initialised(
        time=parts.line.clock.now(),
        ledger_id=secrets.token_hex(16),
        base=parts.base.digest,
        method=parts.method.name,
        options=dict(parts.method.options),
    )
    initialise(parts.line, origin)
    recover(parts.line)
    parts.engine.check_memory()


def registries_of(settings: Settings, clock: Clock) -> dict[str, Registry]:
    """The configured registries by name, and the one that holds the operator's requests."""
    limits = limits_of(settings)
    opened: dict[str, Registry] = {
        entry.name: open_registry(
            entry.url, name=entry.name, settle_seconds=entry.settle_seconds, settle_polls=entry.settle_polls,
            clock=clock, limits=limits,
        )
        for entry in settings.registries
    }  # fmt: skip
    roots = {entry.name: entry.path for entry in settings.registries}
    opened[REQUESTS] = RequestsRegistry(settings.node.state, roots=roots, clock=clock, limits=limits)
    return opened


@contextmanager
def open_loop(
    settings: Settings, ledger: LedgerStore, observer: Observer, lifecycle: Lifecycle, *, once: bool = False
) -> Iterator[Loop]:
    """A loop that is ready to run on a locked state: recovered, checked, watching."""
    clock = SystemClock()
    with ExitStack() as stack:
        parts = build_parts(settings, ledger, observer, lifecycle, clock)
        start(parts)
        registries = registries_of(settings, clock)
        for registry in registries.values():
            stack.callback(registry.close)
        if not once:
            for path in (*(entry.path for entry in settings.registries), settings.node.state / "requests"):
                stack.enter_context(_watching(path, observer, lifecycle))
        yield Loop(
            line=parts.line,
            registries=registries,
            policy=policy_of(settings),
            lifecycle=lifecycle,
            jitter=random.Random().random,  # noqa: S311 - spreads retries, hides nothing
            once=once,
        )


def run_node(settings: Settings, *, once: bool = False) -> Stop:
    """The daemon from start to stop, with its signals, metrics and HTTP port.

    Durability: whatever was committed stays, however this ends. Raises FatalError when the operator has to act.
    """
    clock = SystemClock()
    names = [*(entry.name for entry in settings.registries), REQUESTS]
    metrics_registry = CollectorRegistry()
    live = LiveStatus(clock, names)
    metrics = PrometheusObserver(metrics_registry, names, clock)
    observer = FanOut([LogObserver(clock), metrics, live])
    lifecycle = Lifecycle(clock, drain_seconds=settings.shutdown.drain_seconds, on_stop=live.drain)
    with lifecycle.signals(), open_state(settings) as ledger:
        for kind in ("folded", "published"):
            metrics.restore(fact for _, fact in ledger.facts(kinds=[kind], newest=1))
        with (
            _serving(settings, ledger, metrics_registry, live, observer),
            open_loop(settings, ledger, observer, lifecycle, once=once) as loop,
        ):
            live.state_loaded()
            stop = loop.run()
    observer.message("info" if stop.complete else "warning", f"stopped: {stop.why}")
    return stop


@contextmanager
def _serving(
    settings: Settings, ledger: LedgerStore, metrics: CollectorRegistry, live: LiveStatus, observer: Observer
) -> Iterator[None]:
    if settings.http.address is None:
        yield
        return
    reader = open_reader(settings.node.state / LEDGER)
    server = HttpServer(create_app(settings.node.name, reader, metrics, live), *settings.http.address)
    host, port = server.start()
    observer.message("info", f"metrics, probes and status on http://{host}:{port}/")
    try:
        yield
    finally:
        server.stop()
        reader.close()


def policy_of(settings: Settings) -> Policy:
    """When to publish and how long to rest."""
    every = settings.publish.every
    settle = max((entry.settle_seconds for entry in settings.registries), default=0.0)
    polls = [entry.poll_seconds for entry in settings.registries]
    return Policy(
        publish_every_contributions=every.contributions or 1 << 62,
        publish_every_seconds=every.seconds,
        keep=settings.publish.keep,
        poll_seconds=min(polls, default=10.0),
        once_patience_seconds=settle + 30.0,
    )


@contextmanager
def _watching(path: Path, observer: Observer, lifecycle: Lifecycle) -> Iterator[None]:
    watch = open_watch(path, lambda text: observer.message("warning", text))
    watch.start(lifecycle.poke)
    try:
        yield
    finally:
        watch.stop()
