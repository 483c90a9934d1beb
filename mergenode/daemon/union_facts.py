"""Facts about the exchange between nodes of a union, made from what the facts are about."""

from __future__ import annotations

from mergenode.ledger.records import Admitted, Heard, Ruled, Yielded
from mergenode.ledger.records import Member as MemberFact
from mergenode.ledger.union import Entry, Node, Part, Ruling
from mergenode.types import Digest

PEERS = "peers"
"""The registry that facts about parts of other nodes name."""


def ruled(ruling: Ruling, now: str) -> Ruled:
    return Ruled(
        time=now, content=ruling.content, number=ruling.number, node=ruling.node, said=ruling.said, why=ruling.why
    )


def heard(part: Part, now: str) -> Heard:
    return Heard(
        time=now,
        registry=PEERS,
        name=part.node,
        revision=part.root,
        incarnation=part.position[0],
        seq=part.position[1],
        generation=part.generation,
        count=len(part.entries),
        statistics=part.statistics,
        lineage=part.lineage,
    )


def admitted(content: Digest, node: Node, entry: Entry, now: str) -> Admitted:
    """A contribution enters the union by the part of this node. Where its files are is that node's affair."""
    return Admitted(
        time=now,
        registry=entry.registry,
        name=entry.name,
        revision=entry.revision,
        origin=node,
        location="",
        content=content,
        contribution_kind=entry.kind,
        weight=entry.weight,
        norm=entry.norm,
        relative_norm=entry.relative_norm,
        profile=dict(entry.profile),
    )


def yielded(member: MemberFact, node: Node, location: str, now: str) -> Yielded:
    """A contribution leaves the own merge, because it counts by the part of this node."""
    return Yielded(
        time=now,
        registry=member.registry,
        name=member.name,
        revision=member.revision,
        content=member.content,
        keeper=node,
        location=location,
        weight=member.weight,
        profile=dict(member.profile),
    )
