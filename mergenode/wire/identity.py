"""Who a node is: its id follows from the key that it signs with, so an id needs nobody to vouch for it."""

from __future__ import annotations

from uuid import UUID

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_CONTEXT = "mergenode wire 1 node id"

KEY_BYTES = 32


def node_id_of(key: Ed25519PublicKey) -> UUID:
    """The id of the node that signs with ``key``: the first 16 bytes of the key's BLAKE3 under a context of its own.

    Stable as long as the key is; to find another key with the same id takes about 2^128 attempts.
    """
    return UUID(bytes=blake3(key.public_bytes_raw(), derive_key_context=_CONTEXT).digest(length=16))
