"""Which contribution goes to which neighbour next. Pure: numbers of facts, what was answered, who can be reached."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Cursor:
    """What one neighbour answered for: everything up to the fact ``upto``, and the facts ``ahead`` of it."""

    upto: int = 0
    ahead: frozenset[int] = frozenset()

    def lacks(self, sequence: int) -> bool:
        """Whether there is no answer for this fact."""
        return sequence > self.upto and sequence not in self.ahead

    def answered(self, sequence: int, members: Iterable[int]) -> Cursor:
        """The cursor after an answer for ``sequence``. ``members``: facts whose contents are in the merge, ascending.

        Numbers of other facts are passed over, so ``ahead`` holds only what overtook a member without an answer.
        Idempotent.
        """
        ahead, upto = self.ahead | {sequence}, self.upto
        for member in members:
            if member > upto:
                if member not in ahead:
                    break
                upto = member
        return Cursor(upto, frozenset(each for each in ahead if each > upto))


@dataclass(frozen=True, slots=True)
class Errand:
    """A contribution, by the number of the fact that it was folded, and the neighbours that it goes to."""

    sequence: int
    receivers: tuple[UUID, ...]


def next_errand(
    members: Sequence[int],
    cursors: Mapping[UUID, Cursor],
    ready: Collection[UUID],
    resting: Callable[[UUID, int], bool] = lambda node_id, sequence: False,
) -> Errand | None:
    """The oldest contribution that somebody lacks who can be reached, for all of those at once; None: nothing to do.

    ``members``: ascending. ``resting``: what a neighbour refused a while ago.
    """
    order = sorted(ready, key=lambda node_id: node_id.bytes)
    for sequence in members:
        receivers = tuple(
            node_id
            for node_id in order
            if cursors.get(node_id, Cursor()).lacks(sequence) and not resting(node_id, sequence)
        )
        if receivers:
            return Errand(sequence, receivers)
    return None
