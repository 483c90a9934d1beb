"""Signed heads together with their key, as messages and as files that prove themselves."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mergenode.wire.admission import SignedHead
from mergenode.wire.heads import Head, parse_head
from mergenode.wire.identity import KEY_BYTES, node_id_of
from mergenode.wire.packing import malformed
from mergenode.wire.v1 import objects_pb2
from mergenode.wire.views import SIGNATURE_BYTES, check_head


@dataclass(frozen=True, slots=True)
class KeyedHead:
    """A signed head and the Ed25519 key (32 bytes) that its signature is said to be from. Nothing is checked yet."""

    signed: SignedHead
    key: bytes

    def message(self) -> objects_pb2.SignedHead:
        """As it travels."""
        return objects_pb2.SignedHead(head=self.signed.head, signature=self.signed.signature, key=self.key)

    def packed(self) -> bytes:
        """As it lies on disk: key, signature, head. The signature is the checksum."""
        return self.key + self.signed.signature + self.signed.head

    def public_key(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(self.key)


def keyed_from(message: objects_pb2.SignedHead, where: str) -> KeyedHead:
    """RejectedError: HEADER_INVALID; no signed head has these lengths."""
    check_head(message, where)
    return KeyedHead(SignedHead(message.head, message.signature), message.key)


def unpacked(data: bytes, where: str) -> tuple[KeyedHead, Head]:
    """What ``packed`` wrote. RejectedError: HEADER_INVALID; a bit of it is not as it was written."""
    key, signature, head = data[:KEY_BYTES], data[KEY_BYTES : KEY_BYTES + SIGNATURE_BYTES], data[96:]
    if not head:
        raise malformed(where, f"{len(data)} bytes are no signed head")
    parsed = parse_head(head)
    keyed = KeyedHead(SignedHead(head, signature), key)
    try:
        keyed.public_key().verify(signature, head)
    except (InvalidSignature, ValueError) as error:
        raise malformed(where, "the signature does not fit: the file was damaged") from error
    if node_id_of(keyed.public_key()) != parsed.node_id:
        raise malformed(where, "the key is not that of the node")
    return keyed, parsed
