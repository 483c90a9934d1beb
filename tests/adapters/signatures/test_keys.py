"""Keys in files: for the owner alone, never overwritten unasked, of one kind."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from mergenode.adapters.signatures.keys import KEY_WORD, holds, load_key, make_key, word_of
from mergenode.errors import FatalError, UsageError


def test_a_key_is_for_its_owner_and_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    key = make_key(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert word_of(load_key(file).public_key()) == word_of(key.public_key())
    assert KEY_WORD.fullmatch(word_of(key.public_key()))


def test_a_key_that_is_there_is_replaced_only_when_told(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    first = word_of(make_key(file).public_key())
    with pytest.raises(UsageError, match="is there already"):
        make_key(file)
    assert word_of(load_key(file).public_key()) == first
    assert word_of(make_key(file, force=True).public_key()) != first
    with pytest.raises(UsageError, match="no such directory"):
        make_key(tmp_path / "nowhere/key.pem")


def test_what_is_no_such_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    with pytest.raises(UsageError, match="No such file"):
        load_key(file)
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(FatalError, match="not a private key"):
        load_key(file)
    other = generate_private_key(SECP256R1())
    file.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(FatalError, match="not of Ed25519"):
        load_key(file)
    locked = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    file.write_bytes(locked)
    with pytest.raises(FatalError, match="without a passphrase"):
        load_key(file)


def test_a_signature_holds_for_its_message_and_key() -> None:
    key, other = (Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32) for seed in (1, 2))
    signature = key.sign(b"message")
    assert holds(word_of(key.public_key()), signature, b"message")
    assert not holds(word_of(key.public_key()), signature, b"Message")
    assert not holds(word_of(other.public_key()), signature, b"message")
    assert not holds("ed25519:" + "ff" * 32, signature, b"message")
