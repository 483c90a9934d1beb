"""Hands every contribution that this node folded to its neighbours, who do the same: see docs/contributions.md.

Nobody leads. A node forwards what it folded, never what it refused or had before, so a content passes every line and
the flood ends. What a neighbour answered for is remembered over restarts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.peers.pushing.cursor_file import CursorFile
from mergenode.adapters.peers.pushing.cursors import Cursor, Errand, next_errand
from mergenode.adapters.peers.pushing.local_model import LocalModel, describe_model
from mergenode.adapters.peers.pushing.pushing import PushOrder, PushReport
from mergenode.adapters.peers.pushing.sending import NotNowError
from mergenode.adapters.registries.pushes import REGISTRY
from mergenode.errors import FatalError, MergenodeError, RejectedError
from mergenode.ledger.records import Folded
from mergenode.ledger.traces import trace_of
from mergenode.ports.clock import Clock
from mergenode.ports.ledger_store import LedgerReader
from mergenode.tracing.context import at, here, within
from mergenode.tracing.ids import SHORT_DIGITS

_POLL_SECONDS = 2.0
_FIRST_REST, _LONGEST_REST = 1.0, 60.0
_MOST_DOUBLINGS = 6
_REFUSED_SECONDS = 600.0
"""Until something that a neighbour refused to take is offered to it again: its settings may have changed."""
_NAME_BYTES = 100
_WEIGHTS = ".safetensors"

Send = Callable[[LocalModel, PushOrder, str], PushReport]
"""As ``Sending.send``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardingSide:
    """What forwarding needs to know of its node. ``neighbours``: the direct ones that are up, and their host:port;
    ``tell``: level and line for the log; ``random``: uniform in [0, 1)."""

    ledger: LedgerReader
    file: Path
    lineage: str
    neighbours: Callable[[], Mapping[UUID, str]]
    clock: Clock
    random: Callable[[], float]
    tell: Callable[[str, str], None]


class Forwarding:
    """A thread. ``start``, then ``stop`` at the end; ``poke`` when something may be new. One per state directory."""

    def __init__(self, side: ForwardingSide, send: Send, hang_up: Callable[[], None] = lambda: None) -> None:
        """``hang_up``: makes ``send`` end soon. Raises TransientError when the disk fails."""
        self._side, self._send, self._hang_up = side, send, hang_up
        first = side.ledger.initialised()
        self._base = None if first is None else first.base
        self._file = CursorFile(
            side.file, "" if first is None else first.ledger_id, lambda text: side.tell("warning", text)
        )
        self._cursors = self._file.read()
        self._members: list[int] = []
        self._failures: dict[UUID, int] = {}
        self._rests: dict[UUID, float] = {}
        self._refused: dict[tuple[UUID, int], float] = {}
        self._unreadable: dict[int, float] = {}
        self._said: dict[object, str] = {}
        self._changed = threading.Condition()
        self._poked = self._ending = False
        self._thread = threading.Thread(target=self._run, name="forwarding", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def poke(self) -> None:
        """There may be something to do. From any thread."""
        with self._changed:
            self._poked = True
            self._changed.notify_all()

    def stop(self) -> None:
        """End what is under way; it is resumed in another life. Returns when the thread is over."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._hang_up()
        self._thread.join()

    def work(self) -> None:
        """Everything that can be done now. Idempotence: what was answered for is not sent again.

        Raises TransientError when the ledger or the cursors cannot be read or written now.
        """
        up = self._side.neighbours()
        if not up:
            return
        least = min(self._cursors.get(node_id, Cursor()).upto for node_id in up)
        members = self._side.ledger.members(after=least)
        self._members = [sequence for sequence, fact in members if isinstance(fact, Folded)]
        while not self._ending:
            now = self._side.clock.monotonic()
            ready = {node_id: place for node_id, place in up.items() if self._rests.get(node_id, 0.0) <= now}
            errand = next_errand(self._members, self._cursors, ready, self._is_resting)
            if errand is None:
                return
            self._run_errand(errand, ready)

    def _run(self) -> None:
        while True:
            try:
                self.work()
                self._said.pop("work", None)
            except (MergenodeError, OSError) as error:
                self._say("work", f"contributions are not forwarded now: {error}")
            with self._changed:
                if not self._poked and not self._ending:
                    self._changed.wait(_POLL_SECONDS)
                self._poked = False
                if self._ending:
                    return

    def _is_resting(self, node_id: UUID, sequence: int) -> bool:
        until = max(self._refused.get((node_id, sequence), 0.0), self._unreadable.get(sequence, 0.0))
        return until > self._side.clock.monotonic()

    def _run_errand(self, errand: Errand, places: Mapping[UUID, str]) -> None:
        """One contribution, read once, to everybody who lacks it."""
        fact = _member(self._side.ledger, errand.sequence)
        if fact is None:  # retracted since
            self._members.remove(errand.sequence)
            return
        with within(at(trace_of(fact))):
            self._forward(fact, errand, places)

    def _forward(self, fact: Folded, errand: Errand, places: Mapping[UUID, str]) -> None:
        try:
            model = self._opened(fact)
        except NotNowError:
            return
        except MergenodeError as error:
            self._unusable(errand, fact, error)
            return
        if model is None:
            self._skip(errand, fact, f"{fact.location} holds other weights by now")
            return
        order = PushOrder(
            name=travelling_name(fact), lineage=self._side.lineage, weight=fact.weight, profile=fact.profile,
            base=self._base,
        )  # fmt: skip
        with model:
            for node_id in errand.receivers:
                if self._ending:
                    return
                self._hand_over(model, order, errand.sequence, (node_id, places[node_id]))

    def _opened(self, fact: Folded) -> LocalModel | None:
        """The files behind a fact; None when they hold something else by now. Raises as ``describe_model``."""
        path = Path(fact.location)
        with ExitStack() as stack:
            model = stack.enter_context(describe_model(path, self._unless_ending))
            content = content_digest(path, root=trusted_root(path), progress=self._unless_ending)
            model.weights.assert_unchanged()
            if content != fact.content:
                return None
            stack.pop_all()
        return model

    def _unless_ending(self, done: int, total: int) -> None:
        if self._ending:
            raise NotNowError("the node ends")

    def _unusable(self, errand: Errand, fact: Folded, error: MergenodeError) -> None:
        """Files that are gone or damaged do not come back as what was folded; a share that is away does."""
        path = Path(fact.location)
        gone = path.parent.is_dir() and not path.exists()
        if gone or isinstance(error, RejectedError):
            self._skip(errand, fact, "its files are gone" if gone else error.message)
            return
        self._unreadable[errand.sequence] = self._side.clock.monotonic() + _LONGEST_REST
        self._say(errand.sequence, f"{fact.name} cannot be forwarded now: {error.message}")

    def _skip(self, errand: Errand, fact: Folded, why: str) -> None:
        self._say(errand.sequence, f"{fact.name} is not forwarded: {why}")
        self._answered(errand.receivers, errand.sequence)

    def _hand_over(self, model: LocalModel, order: PushOrder, sequence: int, to: tuple[UUID, str]) -> None:
        node_id, address = to
        try:
            report = self._send(model, order, address)
        except NotNowError as error:
            if not self._ending:
                self._rest(node_id, error.seconds)
                self._say(node_id, f"{order.name} does not reach {node_id} now: {error}")
            return
        except FatalError as error:
            self._refused[node_id, sequence] = self._side.clock.monotonic() + _REFUSED_SECONDS
            self._rest(node_id)
            self._say(node_id, f"{node_id} does not take {order.name}: {error.message} ({error.hint})")
            return
        except MergenodeError as error:  # the files changed under the push
            self._unreadable[sequence] = self._side.clock.monotonic() + _FIRST_REST
            self._say(sequence, f"{order.name} cannot be forwarded now: {error.message}")
            return
        self._failures.pop(node_id, None)
        self._rests.pop(node_id, None)
        self._said.pop(node_id, None)
        self._answered((node_id,), sequence)
        working = here()
        known_here = report.trace_id if working is None else working.trace_id
        # What came from a registry has another id there: nobody but this node knows that registry.
        there = "" if report.trace_id == known_here else f", there it is trace {report.trace_id[:SHORT_DIGITS]}"
        self._side.tell("info", f"forwarded {order.name} to {node_id}: {report.outcome}{there}")

    def _answered(self, nodes: tuple[UUID, ...], sequence: int) -> None:
        """The commit point: durable before anything else is sent."""
        for node_id in nodes:
            before = self._cursors.get(node_id, Cursor())
            self._cursors[node_id] = before.answered(sequence, self._members)
            self._refused.pop((node_id, sequence), None)
        self._file.write(self._cursors)

    def _rest(self, node_id: UUID, least: float = 0.0) -> None:
        """Full jitter, growing with every failure in a row."""
        failures = self._failures[node_id] = self._failures.get(node_id, 0) + 1
        longest = min(_LONGEST_REST, _FIRST_REST * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))
        rest = max(least, longest * self._side.random())
        self._rests[node_id] = self._side.clock.monotonic() + rest

    def _say(self, about: object, text: str) -> None:
        """Once, until it is something else."""
        if self._said.get(about) != text:
            self._said[about] = text
            self._side.tell("warning", text)


def _member(ledger: LedgerReader, sequence: int) -> Folded | None:
    """The contribution that this fact put into the merge, if it is still in it."""
    for found, fact in ledger.members(after=sequence - 1):
        return fact if found == sequence and isinstance(fact, Folded) else None
    return None


def travelling_name(fact: Folded) -> str:
    """The name that a contribution had before it was pushed here, as a name that every node takes."""
    name = fact.name.rpartition("@")[0] if fact.registry == REGISTRY else fact.name
    return (name or fact.name).removesuffix(_WEIGHTS).encode()[:_NAME_BYTES].decode(errors="ignore").strip()
