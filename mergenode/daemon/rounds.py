"""Round after round, until the node is asked to stop: the loop of a node that mixes with its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mergenode.daemon.circle import Circle
from mergenode.daemon.lifecycle import Lifecycle
from mergenode.daemon.patience import NODE, Patience
from mergenode.daemon.round import Watch, advance
from mergenode.daemon.tuning import Tuning, settled
from mergenode.errors import TransientError
from mergenode.ledger.actions import Stop
from mergenode.ledger.round_state import Phase, RoundState
from mergenode.ports.engine import Stopped
from mergenode.tracing.context import at, within
from mergenode.tracing.ids import weights_trace

LOOK_SECONDS = 10.0
"""While waiting, signs of life are given at least this often."""


@dataclass(slots=True, kw_only=True)
class Rounds:
    """One node's rounds. ``once``: stop when all rounds that were asked for are done, instead of serving their model.

    ``jitter``: numbers in [0, 1) that spread retries.
    """

    circle: Circle
    state: RoundState
    lifecycle: Lifecycle
    jitter: Callable[[], float]
    once: bool = False
    tuning: Tuning = settled
    watch: Watch = field(init=False)
    patience: Patience = field(init=False)

    def __post_init__(self) -> None:
        clock = self.circle.line.clock
        self.watch = Watch(clock.monotonic())
        self.patience = Patience(clock=clock, jitter=self.jitter)

    def run(self) -> Stop:
        """Until asked to stop (a phase at hand is finished within the time to drain), or, with ``once``, until done.

        Raises FatalError when the operator has to act.
        """
        while True:
            self.circle.line.observer.heartbeat()
            if (tuned := self.tuning()) is not None:
                self.circle = replace(self.circle, line=tuned.line(self.circle.line))
            if self.lifecycle.draining:
                done = self.state.phase is Phase.REST
                return Stop(f"asked to stop in round {self.state.number}, {self.state.phase}", complete=done)
            if self.once and self.state.phase is Phase.REST:
                return Stop(f"{self.state.number} rounds are done")
            try:
                with within(at(weights_trace(self.state.root)) if self.state.root else None):
                    seconds = self.step()
            except Stopped as stopped:
                return Stop(f"asked to stop, {stopped}", complete=False)
            if seconds > 0:
                self.lifecycle.wait(min(seconds, LOOK_SECONDS))

    def step(self) -> float:
        """The phase that is due; seconds to wait before the next step, 0 when something was done.

        A transient failure is told and tried again after a pause. Raises FatalError and Stopped.
        """
        left = self.patience.left(NODE)
        if left > 0:
            return left
        try:
            outcome = advance(self.circle, self.state, self.watch)
        except TransientError as error:
            delay = self.patience.failed(NODE, error.reason.value)
            self.circle.line.observer.retrying(
                f"round {self.state.number}", error.reason.value, error.message, delay, error.hint
            )
            return delay
        self.patience.succeeded(NODE)
        if isinstance(outcome, RoundState):
            self.state = outcome
            return 0.0
        return outcome
