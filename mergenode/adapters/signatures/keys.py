"""Keys of those who sign: a private key in a file of its own, a public key as a word that fits into a settings file."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from mergenode.adapters.durable import disk_errors, replace_file
from mergenode.errors import FatalError, UsageError

PREFIX = "ed25519:"
KEY_WORD = re.compile(r"ed25519:[0-9a-f]{64}")
_MOST_BYTES = 4096


def word_of(key: Ed25519PublicKey) -> str:
    """``ed25519:`` and the 32 bytes of a public key in hexadecimal."""
    return PREFIX + key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def make_key(path: Path, *, force: bool = False) -> Ed25519PrivateKey:
    """A new key, written to ``path`` for the owner alone (PKCS 8, PEM, no passphrase).

    Durability: content and name are synced on return.

    Raises:
        UsageError: something is there and ``force`` is not set, or the directory is not there.
        TransientError: the disk is full or failing.
    """
    if os.path.lexists(path) and not force:
        raise UsageError(
            f"{path}: is there already", hint="Name another file; --force makes a new key in its place, for good."
        )
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: no such directory", hint="Make it first, for the owner alone.")
    key = Ed25519PrivateKey.generate()
    with disk_errors(path):
        replace_file(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), private=True)
    return key


def load_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a file. Raises UsageError when there is none, FatalError when it is of another kind."""
    hint = "`mergenode keygen FILE` makes one."
    try:
        with path.open("rb") as stream:
            pem = stream.read(_MOST_BYTES)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", hint=hint) from error
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FatalError(f"{path}: not a private key without a passphrase: {error}", hint=hint) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise FatalError(f"{path}: a private key, but not of Ed25519", hint=hint)
    return key


def holds(word: str, signature: bytes, message: bytes) -> bool:
    """Whether the key behind ``word`` (of the form ``KEY_WORD``) made ``signature`` of ``message``."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(word.removeprefix(PREFIX))).verify(signature, message)
    except InvalidSignature:
        return False
    return True
