"""The settings file, read again while the node runs: what may change changes, the rest is told by name."""

from __future__ import annotations

from pathlib import Path

from mergenode.adapters.observers.log import adjust_logging
from mergenode.adapters.observers.reload_metrics import ReloadMetrics
from mergenode.adapters.watched_file import WatchedFile
from mergenode.bootstrap.gatekeeping import gatekeeper_of
from mergenode.bootstrap.parts import Parts, max_relative_norm_of
from mergenode.bootstrap.policy import policy_of
from mergenode.bootstrap.task_features import require_wanted, wanted_features
from mergenode.daemon.lifecycle import Lifecycle
from mergenode.daemon.tuning import Tuned, Tuning
from mergenode.errors import MergenodeError, TransientError
from mergenode.ports.observer import Observer
from mergenode.settings import Settings, load_settings
from mergenode.settings.reloading import Reloaded, reloaded


class Reloading:
    """Of one process. ``running``: the settings that are in force; at first those it was started with.

    ``ask``: read the file again, changed or not. ``watching``: see ``WatchedFile``.
    """

    def __init__(self, path: Path, settings: Settings, observer: Observer, metrics: ReloadMetrics) -> None:
        self.running = settings
        self._path = path
        self._file = WatchedFile(path)
        self._observer = observer
        self._metrics = metrics
        self.ask = self._file.ask
        self.watching = self._file.watching

    def tuning(self, parts: Parts, lifecycle: Lifecycle) -> Tuning:
        """What the loop of these parts asks between two actions."""

        def changed() -> Tuned | None:
            if not self._file.take():
                return None
            try:
                change = reloaded(self.running, load_settings(self._path))
                tuned = self._tuned(change.settings, parts, lifecycle)
            except MergenodeError as error:
                self._failed(error)
                return None
            if change.settings.log != self.running.log:
                adjust_logging(change.settings.log.format, change.settings.log.level)
            self.running = change.settings
            self._tell(change)
            return tuned

        return changed

    def _tuned(self, settings: Settings, parts: Parts, lifecycle: Lifecycle) -> Tuned:
        """Everything that can be refused is made here, before anything changes."""
        line = parts.line
        gatekeeper = line.gatekeeper
        if settings.gates != self.running.gates:
            if set(wanted_features(settings)) - set(wanted_features(self.running)):
                require_wanted(settings, self._observer, lambda: lifecycle.draining)
            gatekeeper = gatekeeper_of(
                settings, parts.engine, line.ledger, line.publisher, self._observer, lifecycle.abandon
            )
        return Tuned(
            policy=policy_of(settings),
            keep=settings.publish.keep,
            max_relative_norm=max_relative_norm_of(settings),
            gatekeeper=gatekeeper,
        )

    def _failed(self, error: MergenodeError) -> None:
        self._metrics.failed()
        if isinstance(error, TransientError):
            self._file.ask()
        text = error.message.replace("\n", "; ")
        self._observer.message("error", f"the settings stay as they were: {text}", hint=error.hint)

    def _tell(self, change: Reloaded) -> None:
        self._metrics.succeeded(len(change.waiting))
        names = ", ".join(change.applied)
        if names:
            self._observer.message("info", f"settings in force now: {names}", applied=list(change.applied))
        elif not change.waiting:
            self._observer.message("debug", "settings were read again, and are as they were")
        if change.waiting:
            self._observer.message(
                "warning",
                f"settings not in force until a restart: {', '.join(change.waiting)}",
                restart=list(change.waiting),
                hint="Restart the node when it suits; it goes on with the values that it was started with.",
            )
