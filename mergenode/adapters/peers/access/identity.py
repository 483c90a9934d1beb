"""Who this node is: a key made once, the id that follows from it, and how often the node was started.

``state/identity`` holds ``key.pem`` (Ed25519, PKCS 8, for the owner alone) and ``incarnation``: the number of starts,
and a check over it and the id. Both appear together, by one rename. So one without the other is damage and never a
first start: a number that began again at 1 would make every other node deaf to this one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

from blake3 import blake3
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from mergenode.adapters.durable import disk_errors, remove_tree, rename_directory, replace_file
from mergenode.errors import FatalError
from mergenode.wire.identity import node_id_of

IDENTITY = "identity"
KEY = "key.pem"
INCARNATION = "incarnation"

_MOST_BYTES = 4096
_LARGEST = 1 << 63
_HINT = (
    "Restore this directory as it was at the last start. If that is not possible, remove it: the node then starts as "
    "another one, and what it was before stays in the exchange until it is forgotten there."
)


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """``node_id`` follows from ``key``; ``incarnation`` counts the starts, this one included (0: never started)."""

    node_id: UUID
    incarnation: int
    key: Ed25519PrivateKey = field(repr=False)


def load_identity(state: Path) -> NodeIdentity:
    """The identity of a node that starts now: the key is made if there is none, the start is counted.

    The caller holds the lock of the state directory. Durability: key and number are synced on return, so no
    incarnation is ever used twice, whenever the process or the machine dies.

    Raises:
        FatalError: key or number are missing or damaged; nothing was changed.
        TransientError: the disk is full or failing.
    """
    folder = state / IDENTITY
    if not os.path.lexists(folder):
        with disk_errors(folder):
            _make(folder)
    before = _read(folder)
    identity = replace(before, incarnation=before.incarnation + 1)
    with disk_errors(folder):
        replace_file(folder / INCARNATION, _line(identity))
    return identity


def read_identity(state: Path) -> NodeIdentity | None:
    """The identity as it was at the last start, without counting; None when the node never had one.

    Raises:
        FatalError: key or number are missing or damaged.
    """
    folder = state / IDENTITY
    return _read(folder) if os.path.lexists(folder) else None


def _make(folder: Path) -> None:
    hidden = folder.with_name(f".{folder.name}.new")
    remove_tree(hidden)
    hidden.mkdir(mode=0o700)
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    replace_file(hidden / KEY, pem, private=True)
    replace_file(hidden / INCARNATION, _line(NodeIdentity(node_id_of(key.public_key()), 0, key)))
    rename_directory(hidden, folder)


def _read(folder: Path) -> NodeIdentity:
    path = folder / KEY
    try:
        key = load_pem_private_key(_content(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FatalError(f"{path}: not a private key: {error}", hint=_HINT) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise FatalError(f"{path}: a private key, but not of Ed25519", hint=_HINT)
    node_id = node_id_of(key.public_key())
    path = folder / INCARNATION
    text = _content(path)
    number = text.partition(b" ")[0]
    identity = NodeIdentity(node_id, int(number) if number.isdigit() and len(number) < 20 else -1, key)
    if not 0 <= identity.incarnation < _LARGEST or text != _line(identity):
        raise FatalError(f"{path}: not the number of starts of node {node_id}, or damaged", hint=_HINT)
    return identity


def _line(identity: NodeIdentity) -> bytes:
    number = b"%d" % identity.incarnation
    check = blake3(number + b" " + identity.node_id.bytes, derive_key_context="mergenode 1 incarnation").hexdigest(8)
    return b"%s %s\n" % (number, check.encode())


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_MOST_BYTES)
    except OSError as error:
        raise FatalError(f"{path}: {error.strerror or error}", hint=_HINT) from error
