"""The daemon, composed: registries, watches, HTTP, signals around the parts."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry

from mergenode.adapters.clock import SystemClock
from mergenode.adapters.engines.local.tensor_table import TensorTable
from mergenode.adapters.http.app import create_app
from mergenode.adapters.http.live import LiveStatus
from mergenode.adapters.http.server import HttpServer
from mergenode.adapters.observers.activity_metrics import ActivityMetrics
from mergenode.adapters.observers.distances import DistanceObserver
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.observers.log import LogObserver
from mergenode.adapters.observers.prometheus import PrometheusObserver
from mergenode.adapters.observers.reload_metrics import ReloadMetrics
from mergenode.adapters.observers.remembered import facts_to_restore
from mergenode.adapters.observers.span_metrics import SpanMetrics
from mergenode.adapters.observers.spans import SpanObserver
from mergenode.adapters.peers.access.callers import caller_of
from mergenode.adapters.registries import open_registry
from mergenode.adapters.registries.ingested import INGESTED, IngestedRegistry, past_requests
from mergenode.adapters.registries.pushes import REGISTRY as PUSHES
from mergenode.adapters.registries.pushes import PushesRegistry, pushes_directory
from mergenode.adapters.registries.released import WithReleased
from mergenode.adapters.registries.requests import RequestsRegistry, requests_directory
from mergenode.adapters.registries.watch import open_watch
from mergenode.adapters.registries.watched import WatchedRegistry
from mergenode.adapters.store.change_requests import FolderChangeRequests
from mergenode.adapters.store.generations import FolderGenerations
from mergenode.adapters.store.sqlite_ledger import open_reader
from mergenode.adapters.store.union_reader import UnionReader
from mergenode.bootstrap.exchanging import open_exchange
from mergenode.bootstrap.forwarding import CONTRIBUTIONS, forwarding_to_neighbours, refuse_forwarding
from mergenode.bootstrap.intake import open_intake
from mergenode.bootstrap.kills import warn_of_kills
from mergenode.bootstrap.name_patterns import warn_of_idle_patterns
from mergenode.bootstrap.parts import BASE_CACHE, LEDGER, Parts, base_model, build_parts, limits_of, open_state, start
from mergenode.bootstrap.peers import Peers, join_peers, open_port
from mergenode.bootstrap.policy import policy_of
from mergenode.bootstrap.reloading import Reloading
from mergenode.bootstrap.rounds import open_rounds
from mergenode.bootstrap.selecting import open_selecting
from mergenode.bootstrap.task_features import require_wanted
from mergenode.bootstrap.tracing import open_tracing
from mergenode.bootstrap.union import UNION, open_union, union_ledger
from mergenode.daemon.lifecycle import Lifecycle
from mergenode.daemon.loop import Loop
from mergenode.daemon.rounds import Rounds
from mergenode.daemon.tuning import settled
from mergenode.daemon.union import UnionMixing
from mergenode.errors import UsageError
from mergenode.ledger.actions import Stop
from mergenode.ports.clock import Clock
from mergenode.ports.engine import Stopped
from mergenode.ports.ledger_store import LedgerReader, LedgerStore
from mergenode.ports.observer import Observer
from mergenode.ports.registry import Registry
from mergenode.settings import Settings
from mergenode.tracing.spans import SILENT, Tracer

SERVICE = "mergenode"
"""What it is called among the services of a trace, unless OTEL_SERVICE_NAME says otherwise."""

REQUESTS = "ingest"
"""The registry of what the operator asked for."""


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
    roots[PUSHES] = pushes_directory(settings.node.state)
    opened[REQUESTS] = RequestsRegistry(settings.node.state, roots=roots, clock=clock, limits=limits)
    return opened


def names_of(settings: Settings) -> list[str]:
    """The registries that a node looks at, by name; a node of rounds looks at none."""
    if settings.mixer.name == "dimat":
        return []
    return [*(entry.name for entry in settings.registries), REQUESTS, *([PUSHES] if _has_pushes(settings) else [])]


def _has_pushes(settings: Settings) -> bool:
    """Whether teams can push here, or could once: what they pushed stays a contribution."""
    return settings.peers.address is not None or pushes_directory(settings.node.state).is_dir()


@contextmanager
def open_loop(
    settings: Settings,
    ledger: LedgerStore,
    observer: Observer,
    lifecycle: Lifecycle,
    *,
    once: bool = False,
    peers: Peers | None = None,
    tracer: Tracer = SILENT,
    reloading: Reloading | None = None,
) -> Iterator[Loop]:
    """A loop that is ready to run on a locked state: recovered, checked, watching, and with its gRPC port open."""
    clock = SystemClock()
    with ExitStack() as stack:
        parts = build_parts(settings, ledger, observer, lifecycle, clock, tracer)
        warn_of_idle_patterns(settings, parts.base, observer)
        require_wanted(settings, observer, lambda: lifecycle.draining)
        registries, mixing = registries_of(settings, clock), None
        registries[REQUESTS] = WithReleased(registries[REQUESTS], ledger)
        if peers is None:
            _need_a_port(settings)
            start(parts)
            if _has_pushes(settings):
                registries[PUSHES] = PushesRegistry(settings.node.state, clock=clock, limits=limits_of(settings))
        else:
            mixing = _among_others(stack, peers, parts, registries, lifecycle)
        selecting = None
        if settings.selector.name != "all":
            selecting = stack.enter_context(open_selecting(settings, parts, lifecycle))
            registries[INGESTED] = IngestedRegistry(past_requests(ledger))
        if not once:
            registries = watched(registries, settings, observer, lifecycle)
        for registry in registries.values():
            stack.callback(registry.close)
        yield Loop(
            line=parts.line if mixing is None else mixing.own,
            registries=registries,
            changes=FolderChangeRequests(settings.node.state),
            policy=replace(policy_of(settings), publishes=mixing is None),
            lifecycle=lifecycle,
            jitter=random.Random().random,  # noqa: S311 - spreads retries, hides nothing
            once=once,
            mixing=mixing,
            selecting=selecting,
            tuning=settled if reloading is None else reloading.tuning(parts, lifecycle),
        )


def _need_a_port(settings: Settings) -> None:
    """Refuse a mixer that nobody could call. Commands that work beside a node come here too, without its port."""
    if settings.mixer.name != "none" and settings.peers.address is None:
        raise UsageError(
            f"mixer.name is {settings.mixer.name}, but the node has no port for others",
            hint="Set peers.listen, and peers.neighbours (see docs/peers.md).",
        )


def _among_others(
    stack: ExitStack, peers: Peers, parts: Parts, registries: dict[str, Registry], lifecycle: Lifecycle
) -> UnionMixing | None:
    """Everything that other nodes and teams have to do with: what they push, what they offer, and the port, open."""
    settings = peers.settings
    if settings.mixer.name == CONTRIBUTIONS:
        refuse_forwarding(parts.method)
    exchange = open_exchange(peers, parts.base, parts.method) if settings.mixer.name == UNION else None
    mixing = None
    if exchange is None:
        start(parts)
    else:
        mixing = stack.enter_context(open_union(settings, parts, exchange[0], policy_of(settings)))
        exchange[0].listen(lifecycle.poke)
    services, drain = [], ExitStack()
    if settings.peers.intake.enabled:
        reader = stack.enter_context(closing(open_reader(settings.node.state / LEDGER)))
        intake = open_intake(
            settings, base=parts.base, reader=reader, clock=peers.clock, poke=lifecycle.poke, caller_of=caller_of,
            tell=lambda text: peers.observer.message("info", text), tracer=peers.tracer, observer=peers.observer,
        )  # fmt: skip
        stack.callback(intake.close)
        drain.callback(intake.service.drain)
        services.append(intake.service.register)
        registries[PUSHES] = intake.registry
    else:
        registries[PUSHES] = PushesRegistry(settings.node.state, clock=peers.clock, limits=limits_of(settings))
    stack.enter_context(open_port(peers, exchange, services))
    stack.enter_context(drain)  # left before the port is closed: long work of a push ends at its next block
    if settings.mixer.name == CONTRIBUTIONS:
        stack.enter_context(forwarding_to_neighbours(peers))
    return mixing


def run_node(settings: Settings, *, once: bool = False, config: Path | None = None) -> Stop:
    """The daemon from start to stop, with its signals, metrics, HTTP and gRPC ports.

    ``config``: the file of the settings, to be read again when it changes; None: they stay as they are.
    Durability: whatever was committed stays, however this ends. Raises FatalError when the operator has to act.
    """
    clock = SystemClock()
    names = names_of(settings)
    metrics_registry = CollectorRegistry()
    live = LiveStatus(clock, names)
    metrics = PrometheusObserver(metrics_registry, names, clock)
    log, spans = LogObserver(clock), SpanMetrics(metrics_registry)
    ActivityMetrics(metrics_registry, live.activities)
    told = FanOut([log, metrics, live])
    reloading = None
    if config is not None:
        reloading = Reloading(config, settings, told, ReloadMetrics(metrics_registry, clock))
    lifecycle = Lifecycle(
        clock, drain_seconds=settings.shutdown.drain_seconds, on_stop=live.drain,
        on_hangup=_nothing if reloading is None else reloading.ask,
    )  # fmt: skip
    with (
        open_tracing(
            settings.tracing, SERVICE, settings.node.name, lambda text: log.message("warning", text), spans.counted
        ) as tracer,
        closing(lifecycle),
        nullcontext() if reloading is None else reloading.watching(lifecycle.poke),
        lifecycle.signals(),
        open_state(settings) as ledger,
    ):
        observer = FanOut([log, metrics, live, SpanObserver(tracer)])
        warn_of_kills(settings, observer)
        metrics.restore(facts_to_restore(ledger))
        peers = join_peers(settings, observer, metrics_registry, clock, tracer)
        with _serving(settings, metrics_registry, live, observer, peers):
            try:
                with _work(settings, ledger, observer, lifecycle, peers, reloading, tracer, once=once) as work:
                    live.state_loaded()
                    stop = work.run()
            except Stopped as stopped:  # while starting: the base was being read, or a lost version made again
                stop = Stop(f"asked to stop, {stopped}", complete=False)
    observer.message("info" if stop.complete else "warning", f"stopped: {stop.why}")
    return stop


def _nothing() -> None:
    """Nobody reads settings again."""


@contextmanager
def _work(
    settings: Settings, ledger: LedgerStore, observer: Observer, lifecycle: Lifecycle, peers: Peers | None,
    reloading: Reloading | None, tracer: Tracer, *, once: bool,
) -> Iterator[Loop | Rounds]:  # fmt: skip
    """What a node does: fold what its registries bring, or mix in rounds."""
    if settings.mixer.name != "dimat":
        with open_loop(
            settings, ledger, observer, lifecycle, once=once, peers=peers, tracer=tracer, reloading=reloading
        ) as loop:
            yield loop
        return
    if peers is None:
        _need_a_port(settings)
        raise AssertionError("a mixer without a port was refused")
    exchange = open_exchange(peers, base_model(settings, observer))
    told = DistanceObserver(observer, peers.membership.report)
    with (
        open_rounds(settings, exchange[0], ledger, told, lifecycle, once=once, reloading=reloading) as rounds,
        open_port(peers, exchange),
    ):
        yield rounds


@contextmanager
def shown_ledger(settings: Settings) -> Iterator[LedgerReader]:
    """What people are shown of a node whose state is locked here: in a union, versions are those of the union."""
    with closing(open_reader(settings.node.state / LEDGER)) as own:
        if settings.mixer.name != UNION:
            yield own
            return
        ledger = union_ledger(settings)
        with closing(open_reader(ledger)) as shown:
            yield UnionReader(own, shown)


@contextmanager
def _serving(
    settings: Settings, metrics: CollectorRegistry, live: LiveStatus, observer: Observer, peers: Peers | None
) -> Iterator[None]:
    if settings.http.address is None:
        yield
        return
    document = None if peers is None else peers.document
    with shown_ledger(settings) as reader:
        tensors = TensorTable(FolderGenerations(settings.node.state), settings.node.state / BASE_CACHE)
        app = create_app(settings.node.name, reader, metrics, live, peers=document, tensors=tensors)
        server = HttpServer(app, *settings.http.address)
        host, port = server.start()
        observer.message("info", f"metrics, probes and status on http://{host}:{port}/")
        try:
            yield
        finally:
            server.stop()


def watched(
    registries: Mapping[str, Registry], settings: Settings, observer: Observer, lifecycle: Lifecycle
) -> dict[str, Registry]:
    """The same registries, each with a watch that wakes the loop."""
    places = {entry.name: entry.path for entry in settings.registries}
    places[REQUESTS] = requests_directory(settings.node.state)
    places[PUSHES] = pushes_directory(settings.node.state)

    def tell(text: str) -> None:
        observer.message("warning", text)

    return {
        name: WatchedRegistry(registry, open_watch(places[name], tell), lifecycle.poke) if name in places else registry
        for name, registry in registries.items()
    }
