"""Transfers under way, and whether new ones are still taken: what a node counts before it stops."""

from __future__ import annotations

import threading


class Draining:
    """Shared by all services of a server; safe to use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._transfers = 0
        self._begun = False

    def begin(self) -> None:
        """No new transfers from now on. Idempotent; there is no way back."""
        with self._changed:
            self._begun = True

    @property
    def begun(self) -> bool:
        return self._begun

    @property
    def transfers(self) -> int:
        """Transfers under way."""
        return self._transfers

    def enter(self) -> bool:
        """Count a transfer that begins, to be followed by one ``leave``; False, and not counted, while draining."""
        with self._changed:
            self._transfers += not self._begun
            return not self._begun

    def leave(self) -> None:
        """A transfer that was counted is over."""
        with self._changed:
            self._transfers -= 1
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until no transfer is under way, at most so long; whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._transfers == 0, seconds)
