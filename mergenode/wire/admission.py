"""Which heads are believed: signed by whom they name, of this exchange, new, and not in two versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mergenode.errors import RejectedError
from mergenode.wire.blocks import Root
from mergenode.wire.heads import Head, pack_head, parse_head
from mergenode.wire.limits import DEFAULT_WIRE_LIMITS, WireLimits


class HeadFault(StrEnum):
    """Why a head was refused. Closed: metrics and documentation use exactly these codes."""

    MALFORMED = "malformed"
    UNKNOWN_NODE = "unknown_node"
    SIGNATURE = "signature"
    LINEAGE = "lineage"
    SCHEMA = "schema"
    BASE = "base"
    STALE = "stale"
    REPLAYED = "replayed"
    CONFLICTING = "conflicting"


@dataclass(frozen=True, slots=True)
class SignedHead:
    """Canonical bytes of a head and the Ed25519 signature (RFC 8032, 64 bytes) over them."""

    head: bytes
    signature: bytes


def sign_head(head: Head, key: Ed25519PrivateKey) -> SignedHead:
    """Sign a head. Deterministic. ValueError: see ``pack_head``. The caller never signs a position twice."""
    packed = pack_head(head)
    return SignedHead(packed, key.sign(packed))


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a node admits. ``keys``: of the nodes it listens to; ``min_epoch``: older ones are of no use to it."""

    lineage: str
    schema_hash: bytes
    base: Root
    keys: Mapping[UUID, Ed25519PublicKey]
    min_epoch: int = 0


@dataclass(frozen=True, slots=True)
class Admitted:
    """A new head. It is to be made durable before it is acted upon, or it can be replayed after a restart."""

    head: Head
    book: HeadBook


@dataclass(frozen=True, slots=True)
class Known:
    """The newest head of that node once more: harmless."""

    head: Head


@dataclass(frozen=True, slots=True)
class Refused:
    """``head`` is None where the bytes cannot be read; ``other`` is the head that it contradicts (CONFLICTING): both
    carry the node's signature, which proves to anybody that it lied."""

    fault: HeadFault
    message: str
    hint: str
    head: Head | None = None
    other: SignedHead | None = None


@dataclass(frozen=True, slots=True)
class HeadBook:
    """The newest head of every node, by node id. A value: admitting one makes another book."""

    newest: Mapping[UUID, SignedHead] = field(default_factory=lambda: MappingProxyType({}))

    def admit(
        self, signed: SignedHead, expected: Expectation, limits: WireLimits = DEFAULT_WIRE_LIMITS
    ) -> Admitted | Known | Refused:
        """Judge a head by what it is, whoever relayed it. Idempotence: the same head again is ``Known``.

        Checked in this order: form, node, signature, lineage, schema, base, epoch, position. A head is compared with
        the newest one of its node only, so heads may arrive in any order and older ones are refused as replayed.
        """
        try:
            head = parse_head(signed.head, limits)
        except RejectedError as error:
            return Refused(HeadFault.MALFORMED, error.message, error.hint)
        fault = _not_signed(signed, head, expected) or _not_ours(head, expected)
        if fault is not None:
            return fault
        newest = self.newest.get(head.node_id)
        if newest is None or parse_head(newest.head, limits).position < head.position:
            return Admitted(head, HeadBook(MappingProxyType({**self.newest, head.node_id: signed})))
        return _not_newer(signed, head, newest, limits)


def _not_signed(signed: SignedHead, head: Head, expected: Expectation) -> Refused | None:
    key = expected.keys.get(head.node_id)
    if key is None:
        return _refused(HeadFault.UNKNOWN_NODE, head, "its key is not known here", "Add the node to the peers.")
    try:
        key.verify(signed.signature, signed.head)
    except InvalidSignature:
        hint = "Whoever relayed it changed it, or the node has a new key."
        return _refused(HeadFault.SIGNATURE, head, "the signature is not that of the node", hint)
    return None


def _not_ours(head: Head, expected: Expectation) -> Refused | None:
    if head.lineage != expected.lineage:
        message = f"it is of lineage {head.lineage!r}, this is {expected.lineage!r}"
        return _refused(HeadFault.LINEAGE, head, message, "Give both nodes the same lineage, or do not connect them.")
    if head.schema_hash != expected.schema_hash:
        message = f"names, types or shapes differ (schema {head.schema_hash.hex()[:12]})"
        return _refused(HeadFault.SCHEMA, head, message, "Both nodes need the same model.")
    if head.base != expected.base:
        message = f"its base is {head.base.hex()[:12]}, here it is {expected.base.hex()[:12]}"
        return _refused(HeadFault.BASE, head, message, "Both nodes need the same base.")
    if head.epoch < expected.min_epoch:
        message = f"epoch {head.epoch}, {expected.min_epoch} is the oldest admitted"
        return _refused(HeadFault.STALE, head, message, "The node lags; it catches up by itself or is too slow.")
    return None


def _not_newer(signed: SignedHead, head: Head, newest: SignedHead, limits: WireLimits) -> Known | Refused:
    if newest.head == signed.head:
        return Known(head)
    known = parse_head(newest.head, limits)
    if known.position == head.position:
        message, hint = "it signed another head with the same position", "Two copies of the node run, or it lies."
        return _refused(HeadFault.CONFLICTING, head, message, hint, newest)
    message = f"position {head.position}, {known.position} was here before"
    return _refused(HeadFault.REPLAYED, head, message, "Nothing: a newer head is known.")


def _refused(fault: HeadFault, head: Head, what: str, hint: str, other: SignedHead | None = None) -> Refused:
    return Refused(fault, f"head {head.position} of {head.node_id}: {what}", hint, head, other)
