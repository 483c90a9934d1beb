"""The identity of a node: made once, counted at every start, and never less than before."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from mergenode.adapters.peers.access.identity import load_identity, read_identity
from mergenode.errors import FatalError, TransientError, TransientReason
from mergenode.wire.identity import node_id_of

OPERATIONS = ("mkdir", "open", "pwrite", "fsync", "replace", "rename", "fchmod")


class Died(BaseException):
    """The process ends here."""


def die_at(monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException) -> Callable[[], int]:
    """The ``number``-th durable operation from now on raises ``error``; returns how many there were."""
    count = 0

    def tapped(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def operation(*args: object, **given: object) -> object:
            nonlocal count
            count += 1
            if count == number:
                raise error
            return real(*args, **given)

        return operation

    for name in OPERATIONS:
        monkeypatch.setattr(os, name, tapped(name))
    return lambda: count


def test_the_first_start_makes_a_key_and_counts_from_one(tmp_path: Path) -> None:
    assert read_identity(tmp_path) is None
    first = load_identity(tmp_path)
    assert first.incarnation == 1 and first.node_id == node_id_of(first.key.public_key())
    assert stat.S_IMODE((tmp_path / "identity/key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "identity").stat().st_mode) == 0o700


def test_every_start_counts_and_nothing_else_changes(tmp_path: Path) -> None:
    starts = [load_identity(tmp_path) for _ in range(12)]
    assert [start.incarnation for start in starts] == list(range(1, 13))
    assert len({start.node_id for start in starts}) == 1
    for _ in range(2):
        read = read_identity(tmp_path)
        assert read is not None and (read.node_id, read.incarnation) == (starts[0].node_id, 12)


def test_the_key_is_not_shown(tmp_path: Path) -> None:
    assert "key" not in repr(load_identity(tmp_path)).lower()


@pytest.mark.parametrize("starts_before", [0, 1])
def test_whenever_it_dies_no_incarnation_is_used_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starts_before: int
) -> None:
    survived, number = False, 0
    while not survived:
        number += 1
        state = tmp_path / str(number)
        state.mkdir()
        used = [load_identity(state).incarnation for _ in range(starts_before)]
        with monkeypatch.context() as patched:
            count = die_at(patched, number, Died())
            try:
                used.append(load_identity(state).incarnation)
                survived = count() < number
            except Died:
                pass
        used += [load_identity(state).incarnation for _ in range(2)]
        assert used == sorted(set(used)), number
        shutil.rmtree(state)
    assert number > 5, "durable operations were counted"


def test_a_full_disk_is_transient_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_identity(tmp_path)
    with monkeypatch.context() as patched:
        die_at(patched, 2, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        with pytest.raises(TransientError) as full:
            load_identity(tmp_path)
    assert full.value.reason is TransientReason.DISK_FULL
    assert load_identity(tmp_path).incarnation == before.incarnation + 1


def other_counter(folder: Path) -> None:
    other = folder.parent / "other"
    other.mkdir()
    load_identity(other)
    shutil.copy(other / "identity/incarnation", folder / "incarnation")


def pem(key: object, protected: bool = False) -> bytes:
    how = BestAvailableEncryption(b"secret") if protected else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)  # type: ignore[attr-defined]


DAMAGES: dict[str, Callable[[Path], object]] = {
    "counter missing": lambda folder: (folder / "incarnation").unlink(),
    "counter empty": lambda folder: (folder / "incarnation").write_bytes(b""),
    "counter cut": lambda folder: (folder / "incarnation").write_bytes((folder / "incarnation").read_bytes()[:-1]),
    "counter lower": lambda folder: (folder / "incarnation").write_bytes(
        b"1" + (folder / "incarnation").read_bytes()[1:]
    ),
    "counter without check": lambda folder: (folder / "incarnation").write_bytes(b"1000\n"),
    "counter huge": lambda folder: (folder / "incarnation").write_bytes(b"9" * 5000),
    "counter of another node": other_counter,
    "counter unreadable": lambda folder: ((folder / "incarnation").unlink(), (folder / "incarnation").mkdir()),
    "key missing": lambda folder: (folder / "key.pem").unlink(),
    "key empty": lambda folder: (folder / "key.pem").write_bytes(b""),
    "key of another kind": lambda folder: (folder / "key.pem").write_bytes(pem(generate_private_key(SECP256R1()))),
    "key protected": lambda folder: (folder / "key.pem").write_bytes(pem(Ed25519PrivateKey.generate(), True)),
    "another key": lambda folder: (folder / "key.pem").write_bytes(pem(Ed25519PrivateKey.generate())),
    "nothing in it": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_ends_the_start_and_is_left_as_it_is(tmp_path: Path, damage: str) -> None:
    for _ in range(3):
        load_identity(tmp_path)
    folder = tmp_path / "identity"
    DAMAGES[damage](folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for ask in (load_identity, read_identity):
        with pytest.raises(FatalError) as told:
            ask(tmp_path)
        assert str(folder) in told.value.message and told.value.hint
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
