"""Node ids."""

from __future__ import annotations

from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mergenode.wire.identity import node_id_of


def test_an_id_follows_from_the_key_and_never_changes() -> None:
    """Golden: a state directory keeps its key for years, and its id with it."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key()
    assert node_id_of(key) == node_id_of(key) == UUID("1e073248-5616-1783-d382-7854bde3830b")


def test_keys_have_ids_of_their_own() -> None:
    assert len({node_id_of(Ed25519PrivateKey.generate().public_key()) for _ in range(100)}) == 100
