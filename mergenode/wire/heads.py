"""Heads: the small signed statement of a node that this is its model now.

The canonical bytes, little-endian (``packing.py``): "mergenode head 1\\n", lineage (text), node id (16 bytes),
incarnation, epoch, seq (8 each), root, schema hash, root of the base (32 each), weight, push-sum weight (binary64),
number of parents (2) and for each, ascending: node id, root, weight; number of metrics (2) and for each, ascending by
name: name (text), value (binary64); milliseconds since 1970 (8). The signature is over exactly these bytes, and they
travel as they were signed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from uuid import UUID

from mergenode.errors import RejectedError
from mergenode.wire.blocks import ID_BYTES, Root
from mergenode.wire.limits import DEFAULT_WIRE_LIMITS, WireLimits
from mergenode.wire.packing import Unpacking, packed_float, packed_number, packed_text

MAGIC = b"mergenode head 1\n"
LINEAGE_CHARACTERS = 128
METRIC_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Parent:
    """A model that went into a head's model, with its share. Parents make the provenance graph."""

    node_id: UUID
    root: Root
    weight: float


@dataclass(frozen=True, slots=True)
class Head:
    """What a node says of its model.

    ``lineage``: the name of the exchange, which all who take part in configure. ``incarnation``: starts of the node;
    ``seq``: heads it signed in that incarnation, both only grow. ``epoch``: rounds. ``base``: root of the base's
    manifest. ``weight``: how much of other nodes' mean the model should get; ``push_sum``: the mass that it carries
    (1 where nobody counts). ``created``: milliseconds since 1970 by the node's own clock, for people.
    """

    lineage: str
    node_id: UUID
    incarnation: int
    epoch: int
    seq: int
    root: Root
    schema_hash: bytes
    base: Root
    weight: float = 1.0
    push_sum: float = 1.0
    parents: tuple[Parent, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    created: int = 0

    @property
    def position(self) -> tuple[int, int]:
        """What is compared: the newest incarnation wins, then the highest sequence number."""
        return (self.incarnation, self.seq)


def pack_head(head: Head, limits: WireLimits = DEFAULT_WIRE_LIMITS) -> bytes:
    """The canonical bytes. Parents and metrics may be in any order.

    Raises:
        ValueError: a number does not fit or is not finite, a weight is negative, an id has not 32 bytes, a parent is
            there twice, or there is more than ``limits`` allow.
    """
    parents = sorted((parent.node_id.bytes + parent.root, parent.weight) for parent in head.parents)
    metrics = sorted(head.metrics.items(), key=lambda item: item[0].encode())
    try:
        fields = (
            MAGIC,
            packed_text(head.lineage),
            head.node_id.bytes,
            *(packed_number(value, 8) for value in (head.incarnation, head.epoch, head.seq)),
            head.root,
            head.schema_hash,
            head.base,
            packed_float(head.weight),
            packed_float(head.push_sum),
            packed_number(len(parents), 2),
            *(key + packed_float(weight) for key, weight in parents),
            packed_number(len(metrics), 2),
            *(packed_text(name) + packed_float(value) for name, value in metrics),
            packed_number(head.created, 8),
        )
        packed = b"".join(fields)
        parse_head(packed, limits)
    except (OverflowError, ValueError, RejectedError) as error:
        raise ValueError(f"head of {head.node_id}: {error}") from error
    return packed


def parse_head(data: bytes, limits: WireLimits = DEFAULT_WIRE_LIMITS) -> Head:
    """The head with these canonical bytes.

    Raises:
        RejectedError: HEADER_INVALID; they are no head, or not as ``pack_head`` writes them.
    """
    fields = Unpacking(data, "head")
    if len(data) > limits.head_bytes:
        raise fields.malformed(f"{len(data)} bytes, {limits.head_bytes} are allowed")
    if fields.raw(min(len(MAGIC), len(data)), "the first line") != MAGIC:
        raise fields.malformed(f"the first line is not {MAGIC.decode().strip()!r}")
    lineage = fields.text(LINEAGE_CHARACTERS, "the lineage")
    node_id = UUID(bytes=fields.raw(16, "the node id"))
    incarnation, epoch, seq = (fields.number(8, what) for what in ("the incarnation", "the epoch", "the seq"))
    root, schema, base = (fields.raw(ID_BYTES, what) for what in ("the root", "the schema hash", "the base"))
    weight, push_sum = _weight(fields, "the weight"), _weight(fields, "the push-sum weight")
    parents, metrics = _parents(fields, limits), _metrics(fields, limits)
    created = fields.number(8, "the time")
    fields.end()
    return Head(
        lineage, node_id, incarnation, epoch, seq, Root(root), schema, Root(base), weight, push_sum, parents, metrics,
        created,
    )  # fmt: skip


def _weight(fields: Unpacking, what: str) -> float:
    value = fields.float(what)
    if value < 0:
        raise fields.malformed(f"{what} is {value}")
    return value


def _parents(fields: Unpacking, limits: WireLimits) -> tuple[Parent, ...]:
    count = fields.number(2, "the number of parents")
    if count > limits.parents:
        raise fields.malformed(f"{count} parents, {limits.parents} are allowed")
    parents = []
    for _ in range(count):
        node_id, root = UUID(bytes=fields.raw(16, "a parent's id")), Root(fields.raw(ID_BYTES, "a parent's root"))
        parents.append(Parent(node_id, root, _weight(fields, "a parent's weight")))
    if any(
        before.node_id.bytes + before.root >= after.node_id.bytes + after.root for before, after in pairwise(parents)
    ):
        raise fields.malformed("parents do not ascend")
    return tuple(parents)


def _metrics(fields: Unpacking, limits: WireLimits) -> Mapping[str, float]:
    count = fields.number(2, "the number of metrics")
    if count > limits.metrics:
        raise fields.malformed(f"{count} metrics, {limits.metrics} are allowed")
    pairs = [(fields.text(METRIC_CHARACTERS, "a metric's name"), fields.float("a metric")) for _ in range(count)]
    if any(before.encode() >= after.encode() for (before, _), (after, _) in pairwise(pairs)):
        raise fields.malformed("metrics do not ascend")
    return MappingProxyType(dict(pairs))
