"""Signing a checkpoint and checking what was signed."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mergenode.adapters.checkpoints.digest import CHUNK_BYTES, ByteProgress, content_digest, no_progress
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.regular_file import (
    list_directory,
    open_regular,
    pread_into,
    read_small,
    trusted_root,
)
from mergenode.adapters.checkpoints.weights import DEFAULT_LIMITS
from mergenode.adapters.durable import disk_errors, replace_file
from mergenode.adapters.registries.names import CONFIG_NAMES, side_cars_of
from mergenode.adapters.signatures.keys import holds, word_of
from mergenode.adapters.signatures.signature_file import (
    SIGNATURE_BYTES,
    Signature,
    SignedFile,
    Statement,
    may_be_signed,
    parse_signature,
    signature_path,
)
from mergenode.errors import RejectedError, RejectReason, TransientError, TransientReason
from mergenode.gates.evidence import SignatureEvidence, SignatureStatus
from mergenode.types import Digest


def sign_checkpoint(checkpoint: Path, key: Ed25519PrivateKey, progress: ByteProgress = no_progress) -> Path:
    """Sign a checkpoint as it lies there and return the path of the signature: what ``mergenode sign`` does.

    Reads the weights once. Durability: the file and its name are synced on return. Idempotence: the same files and
    the same key give the same bytes; a signature that was there is replaced.

    Raises:
        RejectedError: what is there is no checkpoint.
        TransientError: it changed meanwhile; DISK_FULL, READ_FAILED, WRITE_FAILED.
    """
    root = trusted_root(checkpoint)
    content = content_digest(checkpoint, root=root, progress=progress)
    files = {name: _signed(checkpoint, name, root) for name in _files_of(checkpoint, root, DEFAULT_LIMITS)}
    statement = Statement(content, files)
    signature = Signature(word_of(key.public_key()), key.sign(statement.message()), statement)
    target = signature_path(checkpoint)
    with disk_errors(target):
        replace_file(target, signature.to_bytes())
    return target


def check_signature(
    checkpoint: Path, *, registry: str, trusted: Collection[str], content: Digest | None = None,
    root: Path | None = None, limits: Limits = DEFAULT_LIMITS,
) -> SignatureEvidence:  # fmt: skip
    """What is to be said of the signature of a checkpoint. Never raises for what is wrong with it.

    Args:
        registry: that it came from, for the evidence.
        trusted: public keys as ``ed25519:...`` words.
        content: digest of the weights that were read of it (``Evidence.content`` of a fold). None: they are read now.
            Given, no other bytes than those can be meant, whatever happened to the files since.
        root: as in ``open_contribution``.

    Raises:
        TransientError: the files could not be read, or changed meanwhile.
        RejectedError: the weights are no checkpoint (``content`` None only).
    """

    def said(status: SignatureStatus, detail: str = "", key: str = "") -> SignatureEvidence:
        return SignatureEvidence(status=status, registry=registry, key=key, detail=detail)

    root = root or (checkpoint if checkpoint.is_dir() else checkpoint.parent)
    try:
        found = _read(checkpoint, root)
    except (ValueError, RejectedError) as error:
        return said(SignatureStatus.INVALID, f"{signature_path(checkpoint).name}: {error}")
    if found is None:
        return said(SignatureStatus.MISSING)
    if found.key not in trusted:
        return said(SignatureStatus.UNTRUSTED, key=found.key)
    if not holds(found.key, found.signature, found.statement.message()):
        return said(SignatureStatus.INVALID, "the signature is not one of its statement", found.key)
    if (content or content_digest(checkpoint, root=root, limits=limits)) != found.statement.content:
        return said(SignatureStatus.INVALID, "the weights are not those that were signed", found.key)
    try:
        fault = _fault_of_files(checkpoint, found.statement, root, limits)
    except RejectedError as error:
        fault = error.message
    return said(SignatureStatus.INVALID if fault else SignatureStatus.VALID, fault, found.key)


def _read(checkpoint: Path, root: Path) -> Signature | None:
    path = signature_path(checkpoint)
    try:
        data = read_small(path, root=root, shown=path.name, max_bytes=SIGNATURE_BYTES, too_large=RejectReason.TOO_LARGE)
    except TransientError as error:
        if error.reason is TransientReason.VANISHED and not os.path.lexists(path):
            return None
        raise
    return parse_signature(data)


def _fault_of_files(checkpoint: Path, statement: Statement, root: Path, limits: Limits) -> str:
    """What is wrong with the files beside the weights; empty when nothing is.

    Side-cars may be gone, because pushes leave them behind: a method that needs them says so itself.
    """
    there = _files_of(checkpoint, root, limits)
    for name in there:
        if name not in statement.files:
            return f"{name} was not signed"
    for name, promise in statement.files.items():
        if name not in there:
            if name in CONFIG_NAMES:
                return f"{name} is gone"
        elif _signed(checkpoint, name, root) != promise:
            return f"{name} is not the file that was signed"
    return ""


def _files_of(checkpoint: Path, root: Path, limits: Limits) -> list[str]:
    if checkpoint.is_dir():
        names = list_directory(checkpoint, root=root, max_entries=limits.directory_entries)
    else:
        names = tuple(name for name in side_cars_of(checkpoint.name) if os.path.lexists(checkpoint.with_name(name)))
    return sorted(filter(may_be_signed, names))


def _signed(checkpoint: Path, name: str, root: Path) -> SignedFile:
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    fd = open_regular(folder / name, root=root, shown=name)
    try:
        size = os.fstat(fd).st_size
        hasher, buffer = blake3(), memoryview(bytearray(min(size, CHUNK_BYTES)))
        for offset in range(0, size, CHUNK_BYTES):
            part = buffer[: min(CHUNK_BYTES, size - offset)]
            pread_into(fd, offset, part, name)
            hasher.update(part)
        return SignedFile(size, hasher.hexdigest())
    finally:
        os.close(fd)
