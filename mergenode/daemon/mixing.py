"""What the loop knows about the exchange with other nodes: a collaborator that it asks and tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mergenode.daemon.contribute import Line
from mergenode.daemon.restate import restate
from mergenode.daemon.tuning import Tuned
from mergenode.ledger.changes import Change


class Mixing(Protocol):
    """Asked by the loop, in its thread. Holds no truth: all of it is in ledgers and files."""

    def observe(self) -> None:
        """Look at what arrived. Cheap. Raises TransientError when it cannot be read; then look again."""
        ...

    def wanted(self, *, once: bool) -> object | None:
        """What is to be done next, None when there is nothing. Changes nothing."""
        ...

    def act(self, step: object) -> bool:
        """Do it; True when the own merge changed by it.

        Raises TransientError: try again later. FatalError: the operator has to act.
        """
        ...

    def change(self, change: Change) -> None:
        """Carry out what the operator asked to be changed about the merge; see ``restate`` for what it promises.

        Raises:
            RejectedError: it cannot be carried out; nothing was changed.
            TransientError: try again later.
        """
        ...

    def tune(self, tuned: Tuned) -> None:
        """Work with these settings from now on."""
        ...


@dataclass(slots=True)
class Alone:
    """No other nodes: the operator's changes are those of the own merge."""

    line: Line

    def observe(self) -> None:
        """Nobody is there."""

    def wanted(self, *, once: bool) -> object | None:
        return None

    def act(self, step: object) -> bool:
        raise NotImplementedError("a node that is alone wants nothing of others")

    def change(self, change: Change) -> None:
        restate(self.line, change)

    def tune(self, tuned: Tuned) -> None:
        self.line = tuned.line(self.line)
