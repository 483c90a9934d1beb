"""What of the settings may change while the node runs, in the words of the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mergenode.daemon.contribute import Line
from mergenode.ledger.view import Policy
from mergenode.ports.gatekeeper import Gatekeeper


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """Taken over between two actions, so that each is done with one set of settings from its start to its end."""

    policy: Policy
    keep: int
    max_relative_norm: float
    gatekeeper: Gatekeeper

    def line(self, line: Line) -> Line:
        """The same line with what changed."""
        return replace(
            line, keep=self.keep, max_relative_norm=self.max_relative_norm, gatekeeper=self.gatekeeper
        )  # fmt: skip


Tuning = Callable[[], Tuned | None]
"""Asked between two actions: what changed since it was asked last, None when nothing did. Never raises for a file."""


def settled() -> Tuned | None:
    """A ``Tuning`` of settings that do not change."""
    return None
