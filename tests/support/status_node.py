"""A node that exists only as facts and signs of life, and a client without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from mergenode.adapters.http.app import create_app
from mergenode.adapters.http.live import LiveStatus
from mergenode.adapters.observers.prometheus import PrometheusObserver
from mergenode.types import Listing
from tests.support.observed import HandClock, ListLedger, initialised

LIMIT = 100.0
"""Seconds without a sign of life after which the node of these tests counts as stalled."""


@dataclass
class Node:
    clock: HandClock = field(default_factory=HandClock)
    ledger: ListLedger = field(default_factory=lambda: ListLedger([initialised()]))
    metrics: CollectorRegistry = field(default_factory=CollectorRegistry)
    live: LiveStatus = field(init=False)
    app: ASGIApp = field(init=False)

    def __post_init__(self) -> None:
        registries = ["inbox", "bucket"]
        self.live = LiveStatus(self.clock, registries)
        PrometheusObserver(self.metrics, registries, self.clock)
        self.app = create_app("node-a", self.ledger, self.metrics, self.live, stalled_after_seconds=LIMIT)

    def make_ready(self) -> None:
        self.live.state_loaded()
        self.live.listed("inbox", Listing(), 0)
        self.live.listed("bucket", Listing(), 0)

    def request(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> httpx.Response:
        """One request straight into the application; an error inside it is an answer, as behind a server."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
                return await client.request(method, path, headers=dict(headers or {}))

        return asyncio.run(ask())
