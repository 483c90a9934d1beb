"""Contributions leave the merge of a node, composed: what it would take, and doing it where no node runs."""

from __future__ import annotations

import random
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mergenode.adapters.clock import SystemClock
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.store.change_requests import FolderChangeRequests
from mergenode.adapters.store.generations import FolderGenerations
from mergenode.bootstrap.parts import build_parts, engine_of, open_state, start
from mergenode.bootstrap.policy import policy_of
from mergenode.bootstrap.union import UNION
from mergenode.daemon.lifecycle import Lifecycle
from mergenode.daemon.loop import Loop
from mergenode.daemon.recover import require_same
from mergenode.daemon.restate import leaving_members, way_to
from mergenode.errors import FatalError, MergenodeError, UsageError
from mergenode.ledger.changes import Change
from mergenode.ledger.records import Member
from mergenode.ledger.restatement import Replay, Subtract
from mergenode.methods import build_method
from mergenode.ports.clock import Clock
from mergenode.ports.engine import Stopped
from mergenode.ports.ledger_store import LedgerReader, LedgerStore
from mergenode.ports.observer import Observer
from mergenode.settings import Settings
from mergenode.types import Head


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a change would do, and how. ``leaving``: what leaves, in the order in which it entered."""

    leaving: tuple[Member, ...]
    way: Subtract | Replay | None


def forecast(
    settings: Settings, reader: LedgerReader, change: Change, *, shown: LedgerReader | None = None
) -> Forecast:
    """What this change of the merge would do now. Reads the ledger and asks for files, nothing more.

    ``shown``: the ledger of what is published, where that is a union: the change is one of the union then, and ``way``
    tells what it means for the own merge (None: nothing).

    Raises RejectedError when it cannot be done; the message names what is missing.
    """
    origin, head = reader.initialised(), reader.head()
    if origin is None:
        raise FatalError("the ledger has no first fact", hint="Start the node with `mergenode run` first.")
    leaving = leaving_members(shown or reader, change)
    mine = [member for member in leaving if reader.by_content(member.content) is not None]
    if not mine:
        return Forecast(tuple(leaving), None)
    way = way_to(
        reader, change, mine,
        retractable=build_method(origin.method, origin.options).retractable,
        snapshots=generations_of(settings).snapshots(head.generation),
        is_at_hand=lambda candidate: Path(candidate.location).exists(),
    )  # fmt: skip
    return Forecast(tuple(leaving), way)


def generations_of(settings: Settings) -> FolderGenerations:
    """The statistics on disk of a node."""
    return FolderGenerations(settings.node.state, every=settings.snapshots.every, keep=settings.snapshots.keep)


def require_doable(settings: Settings, reader: LedgerReader) -> None:
    """What ``carry_out`` asks for before it begins: settings of this very merge, and memory. Changes no state.

    Raises UsageError (other settings than the state's) or FatalError, as ``carry_out`` does.
    """
    engine = engine_of(settings, generations_of(settings), FanOut([]), lambda: False)
    known = reader.initialised()
    if known is not None:
        require_same(known, engine.base.digest, engine.method.name, engine.method.options)
    engine.check_memory()


def carry_out(settings: Settings, observer: Observer, change: Change | None) -> Change | None:
    """Carry out a change, after what waited before it, and publish the result, as a node that watches nothing.

    ``change``: None is only what waits, and what is not published yet. Returned as it was asked for, with its id: it
    may have been refused, or still wait because the process was asked to stop.

    Durability: as of the daemon; killed at any time the request stays, and the next start goes on with it.

    Raises:
        FatalError: another process works on the state directory, or the operator has to act. The request is withdrawn:
            nothing was changed, or the message says that only the version is missing.
        UsageError: only the node itself may change its merge; the request waits for it.
    """
    clock, requests = SystemClock(), FolderChangeRequests(settings.node.state)
    _leave_it_to_the_node(settings, requests, change, clock)
    lifecycle = Lifecycle(clock, drain_seconds=settings.shutdown.drain_seconds)
    with closing(lifecycle), lifecycle.signals(), open_state(settings) as ledger:
        before = ledger.head().generation
        # Under the lock: nobody else carries it out, so that it can be withdrawn.
        asked = None if change is None else requests.submit(change, clock)
        try:
            _work(settings, ledger, observer, lifecycle, requests, asked)
        except Stopped:
            return asked
        except BaseException as error:
            if asked is not None:
                requests.done(asked)
                if isinstance(error, MergenodeError) and _lacks_version(ledger.head(), since=before):
                    hint = f"{error.hint} Then ask again, or start the node: the version comes first.".lstrip()
                    text = f"the merge was changed, but no version shows it yet: {error.message}"
                    raise FatalError(text, hint=hint) from error
            raise
    return asked


def _leave_it_to_the_node(
    settings: Settings, requests: FolderChangeRequests, change: Change | None, clock: Clock
) -> None:  # fmt: skip
    """Raises UsageError where only the node itself may change its merge."""
    if settings.mixer.name == UNION:
        why = "only a node of a union itself may change its merge"
    elif settings.selector.name != "all":
        why = "where a selector chooses only the node itself may change its merge"
    else:
        return
    hint = "Start the node: it publishes what is left before anything else."
    if change is not None:
        requests.submit(change, clock)
        hint = "The request waits: the node carries it out, before anything else, when it is started."
    raise UsageError(f"the node does not run, and {why}", hint=hint)


def _work(
    settings: Settings, ledger: LedgerStore, observer: Observer, lifecycle: Lifecycle, requests: FolderChangeRequests,
    asked: Change | None,
) -> None:  # fmt: skip
    """Until nothing waits, or the process was asked to stop. Raises FatalError with what it could not get over."""
    told = _LastTrouble(observer)
    parts = build_parts(settings, ledger, told, lifecycle, SystemClock())
    start(parts)
    loop = Loop(
        line=parts.line,
        registries={},
        changes=requests,
        policy=policy_of(settings),
        lifecycle=lifecycle,
        jitter=random.Random().random,  # noqa: S311 - spreads retries, hides nothing
        once=True,
        told_by_asker=None if asked is None else asked.id,
    )
    try:
        stop = loop.run()
        if not stop.complete and not lifecycle.draining:
            raise FatalError(told.text or stop.why, hint=told.hint)
    except MergenodeError as error:
        first = next((identity for identity, _ in requests.waiting()), None)
        if asked is None or first in (None, asked.id):
            raise
        text = f"a change that was asked for earlier waits in front of it, and cannot be made: {error.message}"
        raise FatalError(text, hint=error.hint) from error


def _lacks_version(head: Head, *, since: int) -> bool:
    """Whether the merge was changed after generation ``since``, and that is not published."""
    return head.restated and head.generation > max(since, head.published_generation)


class _LastTrouble(FanOut):
    """Remembers why the last try failed: what is told when patience ends."""

    def __init__(self, observer: Observer) -> None:
        super().__init__([observer])
        self.text, self.hint = "", ""

    def retrying(self, subject: str, reason: str, message: str, delay_seconds: float, hint: str = "") -> None:
        self.text, self.hint = message, hint
        super().retrying(subject, reason, message, delay_seconds, hint)
