"""Metrics of settings that are read again while the node runs."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from mergenode.ports.clock import Clock


class ReloadMetrics:
    """The settings that the process started with count as a first success."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self._clock = clock
        self._success = Gauge(
            "mergenode_config_last_reload_success_timestamp_seconds",
            "When the settings file was last read and found right.",
            registry=registry,
        )
        self._failed = Gauge(
            "mergenode_config_reload_failed",
            "1 while the settings file is wrong and the node goes on with what it had, else 0.",
            registry=registry,
        )
        self._waiting = Gauge(
            "mergenode_config_restart_pending",
            "Settings whose value in the file is not in force until the node is restarted.",
            registry=registry,
        )
        self.succeeded(0)

    def succeeded(self, waiting: int) -> None:
        """``waiting``: how many settings take a restart."""
        self._success.set(self._clock.unix())
        self._failed.set(0)
        self._waiting.set(waiting)

    def failed(self) -> None:
        self._failed.set(1)
