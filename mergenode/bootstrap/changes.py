"""Contributions leave the merge of a node, composed: what it would take, and doing it where no node runs."""

from __future__ import annotations

import random
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mergenode.adapters.clock import SystemClock
from mergenode.adapters.store.change_requests import FolderChangeRequests
from mergenode.adapters.store.generations import FolderGenerations
from mergenode.bootstrap.parts import build_parts, open_state, start
from mergenode.bootstrap.policy import policy_of
from mergenode.bootstrap.union import UNION
from mergenode.daemon.lifecycle import Lifecycle
from mergenode.daemon.loop import Loop
from mergenode.daemon.restate import leaving_members, way_to
from mergenode.errors import FatalError, UsageError
from mergenode.ledger.actions import Stop
from mergenode.ledger.changes import Change
from mergenode.ledger.records import Member
from mergenode.ledger.restatement import Replay, Subtract
from mergenode.methods import build_method
from mergenode.ports.ledger_store import LedgerReader
from mergenode.ports.observer import Observer
from mergenode.settings import Settings


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


def carry_out(settings: Settings, observer: Observer) -> Stop:
    """Carry out what was asked for and publish the result, as a node that watches nothing.

    Durability: as of the daemon, killed at any time the next start goes on. Raises FatalError when another process
    works on the state directory, or the operator has to act.
    """
    if settings.mixer.name == UNION:
        raise UsageError(
            "the node does not run, and only a node of a union itself may change its merge",
            hint="The request waits: the node carries it out, before anything else, when it is started.",
        )
    if settings.selector.name != "all":
        raise UsageError(
            "the node does not run, and where a selector chooses only the node itself may change its merge",
            hint="The request waits: the node carries it out, before anything else, when it is started.",
        )
    clock = SystemClock()
    lifecycle = Lifecycle(clock, drain_seconds=settings.shutdown.drain_seconds)
    with closing(lifecycle), lifecycle.signals(), open_state(settings) as ledger:
        parts = build_parts(settings, ledger, observer, lifecycle, clock)
        start(parts)
        loop = Loop(
            line=parts.line,
            registries={},
            changes=FolderChangeRequests(settings.node.state),
            policy=policy_of(settings),
            lifecycle=lifecycle,
            jitter=random.Random().random,  # noqa: S311 - spreads retries, hides nothing
            once=True,
        )
        return loop.run()
