"""The union of several nodes' merges: what each node says of its own, and what follows from all of it together.

State-based replication. Every node owns one *part*, the statistics of what it folded itself, and everybody keeps the
newest part of everybody. Beside the parts there are rulings (whether a content may be in the union) and forgotten
nodes; both only grow. ``joined`` is commutative, associative and idempotent, so that any order, duplicates and losses
lead to the same state once the same was heard. Everything else here is a function of that state: equal states, equal
unions. docs/adr/0025-union.md argues it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mergenode.ledger.chain import lineage_united
from mergenode.types import Digest

Node = str
"""A node id as text: 36 characters, so that ids sort as their bytes do."""

Position = tuple[int, int]
"""Incarnation and sequence number of a head: the newest wins."""

NOWHERE: Position = (-1, -1)
"""Before every position."""

NEVER = -1
"""Before every incarnation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One contribution in a part: where it came from there, and with which weight it was folded."""

    registry: str
    name: str
    revision: str
    kind: str
    weight: float
    norm: float
    relative_norm: float
    profile: tuple[tuple[str, float], ...] = ()

    def counts_as(self, other: Entry) -> bool:
        """Whether both have the same say."""
        return (self.weight, self.profile) == (other.weight, other.profile)


@dataclass(frozen=True, slots=True, order=True)
class Ruling:
    """Whether ``content`` may be in the union. Ordered: of two rulings on one content the greater one counts.

    ``number``: rulings on this content so far; odd ones take it out, even ones take it in again.
    """

    content: Digest
    number: int
    said: str
    node: Node
    why: str = ""

    @property
    def out(self) -> bool:
        return self.number % 2 == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one node says of its own merge.

    ``statistics``, ``lineage``, ``totals``, ``generation`` and ``last`` (the content folded last, which the digest of
    statistics covers) are those of its own ledger. ``standby``: contents that it could fold, but that another one
    counted; ``fixed``: contents that it cannot take out, because their files are gone. ``position`` and ``root`` are
    those of the head that brought it. ``norm``: of its merge, as the receiver measured it.
    """

    node: Node
    base: Digest
    method: str
    options: Mapping[str, Any]
    position: Position = NOWHERE
    root: str = ""
    generation: int = 0
    last: Digest | None = None
    statistics: Digest | None = None
    lineage: Digest | None = None
    totals: Mapping[str, float] = field(default_factory=dict)
    entries: Mapping[Digest, Entry] = field(default_factory=dict)
    standby: frozenset[Digest] = frozenset()
    fixed: frozenset[Digest] = frozenset()
    rulings: Mapping[Digest, Ruling] = field(default_factory=dict)
    forgotten: Mapping[Node, int] = field(default_factory=dict)
    norm: float = 0.0


@dataclass(frozen=True, slots=True)
class Union:
    """Everything that a node knows: the newest part of each node, rulings by content, forgotten nodes.

    A node is forgotten with all it offered up to an incarnation: whatever of that is still on its way counts no more.
    """

    parts: Mapping[Node, Part] = field(default_factory=dict)
    rulings: Mapping[Digest, Ruling] = field(default_factory=dict)
    forgotten: Mapping[Node, int] = field(default_factory=dict)

    def is_out(self, content: Digest) -> bool:
        ruling = self.rulings.get(content)
        return ruling is not None and ruling.out

    def with_own(self, part: Part) -> Union:
        """The same with the node's own part, which is the newest whatever it was offered as."""
        return replace(self, parts={**self.parts, part.node: part})


def of_part(part: Part) -> Union:
    """What one part says."""
    return Union({part.node: part}, part.rulings, part.forgotten)


def joined(left: Union, right: Union) -> Union:
    """Both together: per node the newest part and the last incarnation forgotten, per content the highest ruling."""
    forgotten = _greatest(left.forgotten, right.forgotten)
    parts = dict(left.parts)
    for node, part in right.parts.items():
        known = parts.get(node)
        if known is None or (known.position, known.root) < (part.position, part.root):
            parts[node] = part
    kept = {node: part for node, part in parts.items() if part.position[0] > forgotten.get(node, NEVER)}
    return Union(kept, _greatest(left.rulings, right.rulings), forgotten)


def _greatest(left: Mapping[Any, Any], right: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The greater value per key; ``left`` itself where nothing of ``right`` is news."""
    news = {key: value for key, value in right.items() if key not in left or left[key] < value}
    return {**left, **news} if news else left


def next_ruling(state: Union, content: Digest, *, out: bool, node: Node, said: str, why: str = "") -> Ruling | None:
    """The ruling by which an operator takes a content out or in, after all that is known; None when it is so."""
    known = state.rulings.get(content)
    number = known.number if known is not None else 0
    return None if (number % 2 == 1) == out else Ruling(content, number + 1, said, node, why)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a part is not counted now: ``content`` was retracted, or part ``other`` counts it already (None: the former).

    The node that owns the part removes it, as soon as it hears of it.
    """

    node: Node
    content: Digest
    other: Node | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """The parts that are added up, in this order, and what they hold.

    ``owners``: the part by which each content counts. ``repeated``: per part the contents that an earlier one holds
    too, where the method counts them once.
    """

    parts: tuple[Part, ...] = ()
    owners: Mapping[Digest, Part] = field(default_factory=dict)
    repeated: Mapping[Node, tuple[Digest, ...]] = field(default_factory=dict)
    obstacles: tuple[Obstacle, ...] = ()

    @property
    def lineage(self) -> Digest | None:
        """Equal exactly where the same parts are counted; None when nothing is."""
        return lineage_united((part.node, part.lineage, part.statistics) for part in self.parts) if self.parts else None


def select(state: Union, *, idempotent: bool) -> Selection:
    """What is counted: in the order of node ids every part without retracted contents and without contents that an
    earlier one counts. ``idempotent``: the method counts a content once that is in two parts with the same weight."""
    chosen: list[Part] = []
    owners: dict[Digest, Part] = {}
    repeated: dict[Node, tuple[Digest, ...]] = {}
    obstacles: list[Obstacle] = []
    for part in _in_order(state):
        shared = part.entries.keys() & owners.keys()
        obstacle = _obstacle(state, part, owners, shared, idempotent=idempotent)
        if obstacle is not None:
            obstacles.append(obstacle)
            continue
        if shared:
            repeated[part.node] = tuple(sorted(shared))
        if part.entries:
            chosen.append(part)
            owners.update((content, part) for content in part.entries if content not in shared)
    return Selection(tuple(chosen), owners, repeated, tuple(obstacles))


def _obstacle(
    state: Union, part: Part, owners: Mapping[Digest, Part], shared: set[Digest], *, idempotent: bool
) -> Obstacle | None:
    retracted = [content for content in part.entries.keys() & state.rulings.keys() if state.is_out(content)]
    if retracted:
        return Obstacle(part.node, min(retracted))
    twice = [content for content in shared if not (idempotent and _even(part, owners[content], content))]
    return Obstacle(part.node, min(twice), owners[min(twice)].node) if twice else None


def _even(left: Part, right: Part, content: Digest) -> bool:
    return left.entries[content].counts_as(right.entries[content])


@dataclass(frozen=True, slots=True)
class Duties:
    """What a node has to do to its own merge: contents that leave because they were retracted, that leave because
    another node counts them (with that node), and that are folded again because nobody does any more."""

    retract: tuple[Digest, ...] = ()
    yields: tuple[tuple[Digest, Node], ...] = ()
    take_back: tuple[Digest, ...] = ()


def duties(state: Union, me: Node, selection: Selection, *, idempotent: bool) -> Duties:
    """What the node ``me``, whose own part is in the state, has to do."""
    own = state.parts[me]
    retract = tuple(sorted(content for content in own.entries.keys() & state.rulings.keys() if state.is_out(content)))
    found: dict[Digest, Node] = {}
    counted = {part.node for part in selection.parts}
    for part in _in_order(state):
        if part.node == me:
            continue
        for content in part.entries.keys() & own.entries.keys():
            if content in found or state.is_out(content) or (idempotent and _even(part, own, content)):
                continue
            if _ranks_before(part, own, content, counted):
                found[content] = part.node
    take_back = tuple(sorted(content for content in own.standby if _is_nobodys(state, own, content)))
    return Duties(retract, tuple(sorted(found.items())), take_back)


def _ranks_before(part: Part, own: Part, content: Digest, counted: set[Node]) -> bool:
    """Whether ``own`` gives way: to one that cannot take the content out, else to a lower node that is counted."""
    if (content in part.fixed) != (content in own.fixed):
        return content in part.fixed
    return part.node < own.node and part.node in counted


def _is_nobodys(state: Union, own: Part, content: Digest) -> bool:
    """Whether ``own`` is the one to fold this content again: in no part, and no lower node waits for it as well."""
    if state.is_out(content):
        return False
    return not any(
        content in part.entries or (content in part.standby and part.node < own.node) for part in state.parts.values()
    )


def keeper(selection: Selection, me: Node, content: Digest) -> Node | None:
    """The other node by which this content counts now; None when there is none."""
    owner = selection.owners.get(content)
    return owner.node if owner is not None and owner.node != me else None


def contributions(selection: Selection) -> Iterator[tuple[Digest, Node, Entry]]:
    """What is in the union, each content once, in canonical order."""
    for content, part in sorted(selection.owners.items(), key=lambda item: item[0]):
        yield content, part.node, part.entries[content]


def _in_order(state: Union) -> list[Part]:
    return [state.parts[node] for node in sorted(state.parts)]
