"""Reading the ledger of a state that is to be combined, next to the node that may be working on it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from mergenode.adapters.store.sqlite_ledger import open_reader
from mergenode.bootstrap.parts import LEDGER
from mergenode.errors import FatalError, TransientError, TransientReason, UsageError
from mergenode.ledger.combination import Side, Withdrawn, admitted_from
from mergenode.ledger.records import Admitted, Deselected, Folded, Retracted, Yielded
from mergenode.ports.ledger_store import LedgerReader
from mergenode.types import Digest, Head

_MOST_READS = 20


class Outrun(Exception):
    """The node of ``state`` committed another generation and retired the one that was being read."""

    def __init__(self, state: Path) -> None:
        super().__init__(str(state))
        self.state = state


def read_side(state: Path, time: str) -> Side:
    """What is in the merge of a state and what was taken out of it, all of one committed moment.

    ``time``: when this was learnt, for the facts of the new ledger.

    Raises:
        UsageError: there is no ledger.
        FatalError: it is damaged, of another version or empty.
        TransientError: the node commits so fast that no two questions see the same moment.
    """
    if not (state / LEDGER).is_file():
        raise UsageError(
            f"{state}: is not a state directory, there is no {LEDGER}",
            hint="Name the directories that `node.state` in the settings of the two nodes names.",
        )
    with closing(open_reader(state / LEDGER)) as reader:
        origin = reader.initialised()
        if origin is None:
            raise FatalError(
                f"{state}: the ledger has no first fact", hint="Start that node once with `mergenode run`."
            )
        for _ in range(_MOST_READS):
            head = reader.head()
            members, withdrawn = _contents(reader, origin.ledger_id, time)
            # Whatever changes the members commits a generation: between two equal ones nothing changed.
            if reader.head().generation == head.generation:
                return Side(origin=origin, head=head, members=members, withdrawn=withdrawn)
    raise TransientError(
        TransientReason.CHANGED_WHILE_READING,
        f"{state}: facts were added faster than they could be read",
        hint="Stop that node meanwhile, or try again.",
    )


def moved_on(state: Path, head: Head) -> bool:
    """Whether the node of a state has committed another generation than ``head`` since."""
    with closing(open_reader(state / LEDGER)) as reader:
        return reader.head().generation != head.generation


def _contents(reader: LedgerReader, origin: str, time: str) -> tuple[tuple[Admitted, ...], tuple[Withdrawn, ...]]:
    """Members in the order in which they entered, and what left and stayed out, with the fact by which it left."""
    inside: dict[Digest, Admitted] = {}
    outside: dict[Digest, Withdrawn] = {}
    for _, fact in reader.history():
        if isinstance(fact, Folded | Admitted):
            outside.pop(fact.content, None)
            inside[fact.content] = admitted_from(fact, origin, time)
        elif isinstance(fact, Yielded | Deselected):
            inside.pop(fact.content)
        elif isinstance(fact, Retracted):
            outside[fact.content] = (inside.pop(fact.content), replace(fact, time=time))
    return tuple(inside.values()), tuple(outside.values())
