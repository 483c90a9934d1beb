"""What the reading commands share: the settings file, the ledger of its node, whether the node runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mergenode.errors import FatalError

if TYPE_CHECKING:
    from mergenode.adapters.store.lock_file import LockOwner
    from mergenode.ports.ledger_store import LedgerReader
    from mergenode.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

LEDGER_NAME = "ledger.sqlite"
UNION = "union"
"""Mixer, and folder of its ledger below the state directory."""


def config_option(command: Command) -> Command:
    """``-c FILE``: the settings of the node, ``node.yaml`` in the current directory when left out."""
    return click.option(
        "-c", "--config", "config", type=click.Path(path_type=Path), default="node.yaml", show_default=True,
        envvar="MERGENODE_CONFIG", show_envvar=True, help="Settings file of the node.",
    )(command)  # fmt: skip


def running_process(state: Path) -> LockOwner | None:
    """The process that works on a state directory now, None when there is none. Takes no lock."""
    from mergenode.adapters.store.lock import read_lock

    owner = read_lock(state)
    return owner if owner is not None and owner.held else None


@dataclass(frozen=True, slots=True)
class Node:
    """A node on this machine, seen from outside: its settings and its facts.

    ``shown``: the ledger of what it publishes. Another one than ``reader`` where that is a union with other nodes.
    """

    settings: Settings
    reader: LedgerReader
    shown: LedgerReader

    @property
    def in_union(self) -> bool:
        return self.shown is not self.reader


@contextmanager
def open_node(config: Path) -> Iterator[Node]:
    """Settings and a read-only ledger, safe while the node runs.

    Raises:
        UsageError: the settings are wrong.
        FatalError: the node has never run, or its ledger is damaged.
    """
    from mergenode.settings import load_settings

    settings = load_settings(config)
    ledger = settings.node.state / LEDGER_NAME
    if not ledger.exists():
        raise FatalError(
            f"{ledger}: no ledger, this node has never run", hint=f"start it with `mergenode run -c {config}`"
        )
    from mergenode.adapters.store.sqlite_ledger import open_reader

    with closing(open_reader(ledger)) as reader:
        union = settings.node.state / UNION / LEDGER_NAME
        if settings.mixer.name != UNION or not union.exists():
            yield Node(settings, reader, reader)
            return
        with closing(open_reader(union)) as shown:
            yield Node(settings, reader, shown)
