"""The folder of a trial: an authority, a key that signs tokens, and a folder per certificate.

    DIR/ca.crt  ca.key          the authority; whoever has ca.key can make certificates for every role
    DIR/tokens.json  token.key  what checks tokens (a JWKS, for `peers.tokens.keys`) and what signs them
    DIR/NAME/tls.crt tls.key ca.crt   for `peers.tls`, named as cert-manager names them

Private keys are for the owner alone. Nothing is replaced unless that is asked for.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jwt
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from mergenode.adapters.durable import disk_errors, remove_tree, rename_directory, replace_file
from mergenode.adapters.peers.access.certificates import Signed, new_authority, new_certificate
from mergenode.adapters.peers.access.tokens import QUOTA_CLAIM, push_scope
from mergenode.errors import FatalError, UsageError

AUTHORITY, AUTHORITY_KEY = "ca.crt", "ca.key"
TOKENS, TOKEN_KEY = "tokens.json", "token.key"
CERTIFICATE, KEY = "tls.crt", "tls.key"
ISSUER = "mergenode certs"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_RESERVED = (AUTHORITY, AUTHORITY_KEY, TOKENS, TOKEN_KEY)
_DAY_SECONDS = 86400


@dataclass(frozen=True, slots=True)
class TrialFolder:
    path: Path

    def initialise(self, days: int, *, force: bool = False) -> None:
        """Make authority and token key. Public parts are written last: with them, all is there.

        Raises:
            UsageError: they exist already, and ``force`` is not set.
            TransientError: they could not be written.
        """
        self._keep(self.path / AUTHORITY, force)
        authority, key = new_authority(days), Ed25519PrivateKey.generate()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with disk_errors(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self.path / TOKEN_KEY, private, private=True)
            replace_file(self.path / AUTHORITY_KEY, authority.key, private=True)
            replace_file(self.path / TOKENS, json.dumps({"keys": [_public(key)]}, indent=2).encode() + b"\n")
            replace_file(self.path / AUTHORITY, authority.certificate)

    def issue(self, role: str, name: str, hosts: tuple[str, ...], days: int, *, force: bool = False) -> Path:
        """Make a certificate; returns its folder, which appears whole.

        Replacing one writes key and certificate one after the other: a running node goes on with the old pair until
        both fit.

        Raises:
            UsageError: a bad or taken name, a bad host, or no authority here.
            TransientError: the files could not be written.
        """
        _check_name(name)
        folder = self.path / name
        self._keep(folder, force)
        authority = Signed(self._read(AUTHORITY), self._read(AUTHORITY_KEY))
        made = new_certificate(authority, role, name, hosts, days)
        place = folder if folder.is_dir() else folder.with_name(f".{name}.new")
        with disk_errors(folder):
            if place != folder:
                remove_tree(place)
                place.mkdir(mode=0o700)
            replace_file(place / KEY, made.key, private=True)
            replace_file(place / CERTIFICATE, made.certificate)
            replace_file(place / AUTHORITY, authority.certificate)
            if place != folder:
                rename_directory(place, folder)
        return folder

    def token(self, name: str, lineages: Sequence[str], quota: int | None, days: float, audience: str) -> str:
        """A signed token with which ``name`` may push to these lineages, ``quota`` bytes a day.

        Raises:
            UsageError: a bad name, or no token key here.
        """
        _check_name(name)
        key = load_pem_private_key(self._read(TOKEN_KEY), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise FatalError(f"{self.path / TOKEN_KEY}: not an Ed25519 key", hint="Make a new folder.")
        now = int(time.time())
        claims: dict[str, object] = {
            "iss": ISSUER, "aud": audience, "sub": name, "iat": now, "exp": now + int(days * _DAY_SECONDS),
            "scope": [push_scope(lineage) for lineage in lineages],
        }  # fmt: skip
        if quota is not None:
            claims[QUOTA_CLAIM] = quota
        return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": _key_id(key)})

    def _keep(self, path: Path, force: bool) -> None:
        if os.path.lexists(path) and not force:
            raise UsageError(
                f"{path} exists already", hint="take another folder or name; --force makes new keys in its place"
            )

    def _read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError as error:
            raise UsageError(
                f"{self.path}: no {name} there", hint=f"run `mergenode certs init {self.path}` first"
            ) from error


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise UsageError(
            f"{name!r} cannot be the name of a certificate or token",
            hint="letters, digits, dots, dashes and underscores, 63 at most, for example node-a",
        )


def _key_id(key: Ed25519PrivateKey) -> str:
    return blake3(key.public_key().public_bytes_raw(), derive_key_context="mergenode 1 token key").hexdigest(8)


def _public(key: Ed25519PrivateKey) -> dict[str, object]:
    public = jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**public, "kid": _key_id(key), "alg": "EdDSA", "use": "sig"}
