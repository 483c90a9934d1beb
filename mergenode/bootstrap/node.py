"""The daemon, composed: registries, watches, HTTP, signals around the parts."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace

from prometheus_client import CollectorRegistry

from mergenode.adapters.clock import SystemClock
from mergenode.adapters.http.app import create_app
from mergenode.adapters.http.live import LiveStatus
from mergenode.adapters.http.server import HttpServer
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.observers.log import LogObserver
from mergenode.adapters.observers.prometheus import PrometheusObserver
from mergenode.adapters.registries import open_registry
from mergenode.adapters.registries.requests import RequestsRegistry, requests_directory
from mergenode.adapters.registries.watch import open_watch
from mergenode.adapters.registries.watched import WatchedRegistry
from mergenode.adapters.store.change_requests import FolderChangeRequests
from mergenode.adapters.store.sqlite_ledger import open_reader
from mergenode.bootstrap.parts import LEDGER, build_parts, limits_of, open_state, start
from mergenode.bootstrap.union import UNION, open_union
from mergenode.daemon.lifecycle import Lifecycle
from mergenode.daemon.loop import Loop
from mergenode.errors import UsageError
from mergenode.ledger.actions import Stop
from mergenode.ledger.view import Policy
from mergenode.ports.clock import Clock
from mergenode.ports.engine import Stopped
from mergenode.ports.exchange import Exchange
from mergenode.ports.ledger_store import LedgerStore
from mergenode.ports.observer import Observer
from mergenode.ports.registry import Registry
from mergenode.settings import Settings

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
    opened[REQUESTS] = RequestsRegistry(settings.node.state, roots=roots, clock=clock, limits=limits)
    return opened


@contextmanager
def open_loop(
    settings: Settings, ledger: LedgerStore, observer: Observer, lifecycle: Lifecycle, *, once: bool = False,
    exchange: Exchange | None = None,
) -> Iterator[Loop]:  # fmt: skip
    """A loop that is ready to run on a locked state: recovered, checked, watching.

    ``exchange``: with the other nodes, where the settings name a mixer.
    """
    clock = SystemClock()
    with ExitStack() as stack:
        parts, policy = build_parts(settings, ledger, observer, lifecycle, clock), policy_of(settings)
        line, mixing = parts.line, None
        if settings.mixer.name == UNION:
            if exchange is None:
                raise UsageError("mixer.name is union, but there are no other nodes", hint="Set peers.listen.")
            mixing = stack.enter_context(open_union(settings, parts, exchange, policy))
            line, policy = mixing.own, replace(policy, publishes=False)
            exchange.listen(lifecycle.poke)
        else:
            start(parts)
        registries = registries_of(settings, clock)
        if not once:
            registries = watched(registries, settings, observer, lifecycle)
        for registry in registries.values():
            stack.callback(registry.close)
        yield Loop(
            line=line,
            registries=registries,
            changes=FolderChangeRequests(settings.node.state),
            policy=policy,
            lifecycle=lifecycle,
            jitter=random.Random().random,  # noqa: S311 - spreads retries, hides nothing
            once=once,
            mixing=mixing,
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
    with closing(lifecycle), lifecycle.signals(), open_state(settings) as ledger:
        newest = [
            found for kind in ("folded", "restated", "published") for found in ledger.facts(kinds=[kind], newest=1)
        ]
        metrics.restore(fact for _, fact in sorted(newest, key=lambda found: found[0]))
        with _serving(settings, metrics_registry, live, observer):
            try:
                with open_loop(settings, ledger, observer, lifecycle, once=once) as loop:
                    live.state_loaded()
                    stop = loop.run()
            except Stopped as stopped:  # while starting: the base was being read, or a lost version made again
                stop = Stop(f"asked to stop, {stopped}", complete=False)
    observer.message("info" if stop.complete else "warning", f"stopped: {stop.why}")
    return stop


@contextmanager
def _serving(settings: Settings, metrics: CollectorRegistry, live: LiveStatus, observer: Observer) -> Iterator[None]:
    if settings.http.address is None:
        yield
        return
    with closing(open_reader(settings.node.state / LEDGER)) as reader:
        server = HttpServer(create_app(settings.node.name, reader, metrics, live), *settings.http.address)
        host, port = server.start()
        observer.message("info", f"metrics, probes and status on http://{host}:{port}/")
        try:
            yield
        finally:
            server.stop()


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


def watched(
    registries: Mapping[str, Registry], settings: Settings, observer: Observer, lifecycle: Lifecycle
) -> dict[str, Registry]:
    """The same registries, each with a watch that wakes the loop."""
    places = {entry.name: entry.path for entry in settings.registries}
    places[REQUESTS] = requests_directory(settings.node.state)

    def tell(text: str) -> None:
        observer.message("warning", text)

    return {
        name: WatchedRegistry(registry, open_watch(places[name], tell), lifecycle.poke)
        for name, registry in registries.items()
    }
