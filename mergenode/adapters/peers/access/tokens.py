"""Tokens: signed texts (JWT, RFC 7519) with which a team may push, for a while, into some lineages.

Only signatures with public keys are known here, and a key is tried with its own algorithm alone, so neither ``none``
nor a public key that is used as a shared secret gets anywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from mergenode.adapters.peers.access.rotating import Rotating

QUOTA_CLAIM = "mergenode_quota"
"""Bytes that the holder may push in 24 hours; absent: what the settings say."""

TOKEN_CHARACTERS = 8192
LEEWAY_SECONDS = 60

_ALGORITHMS = ("EdDSA", "ES256", "RS256")
_MOST_KEYS = 64
_MOST_SCOPES = 256
_PEM = re.compile(rb"-----BEGIN (?:RSA )?PUBLIC KEY-----.+?-----END (?:RSA )?PUBLIC KEY-----", re.DOTALL)
_HINT = "Set peers.tokens.keys to the public keys (JWKS or PEM) that sign tokens, or to null for no tokens."


class TokenFault(StrEnum):
    """Why a token was refused. Closed: metrics use these words; callers never see them."""

    MALFORMED = "token_malformed"
    OVERSIZED = "token_oversized"
    ALGORITHM = "token_algorithm"
    UNKNOWN_KEY = "token_unknown_key"
    SIGNATURE = "token_signature"
    EXPIRED = "token_expired"
    NOT_YET = "token_not_yet_valid"
    AUDIENCE = "token_audience"
    ISSUER = "token_issuer"
    CLAIMS = "token_claims"


class TokenRefusedError(Exception):
    """A token that counts for nothing."""

    def __init__(self, fault: TokenFault) -> None:
        super().__init__(fault.value)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What a valid token says. ``quota``: bytes in 24 hours, or None."""

    subject: str
    scopes: frozenset[str]
    quota: int | None


@dataclass(frozen=True, slots=True)
class _Key:
    id: str | None
    algorithm: str
    public: Any


class TokenVerifier:
    """Checks tokens against the keys of a file, which is read again when it changes. Safe for several threads."""

    def __init__(self, keys: Path, audience: str, issuer: str | None, told: Callable[[str], None]) -> None:
        """``told`` hears, once, of a changed file that is not usable. Raises FatalError when there are no keys now."""
        self._keys = Rotating([keys], lambda contents: _keys_in(keys, contents[0]), told, _HINT)
        self._audience, self._issuer = audience, issuer

    def verify(self, token: str) -> TokenClaims:
        """What a token says, once signature, times, audience and issuer are right.

        Clocks may differ by a minute. Raises TokenRefusedError.
        """
        if len(token) > TOKEN_CHARACTERS:
            raise TokenRefusedError(TokenFault.OVERSIZED)
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise TokenRefusedError(TokenFault.MALFORMED) from error
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in _ALGORITHMS:
            raise TokenRefusedError(TokenFault.ALGORITHM)
        known, _ = self._keys.current()
        fitting = [key for key in known if key.algorithm == algorithm and (key_id is None or key.id in (None, key_id))]
        fault = TokenFault.UNKNOWN_KEY
        for key in fitting:
            try:
                return _claims(self._decoded(token, key))
            except jwt.InvalidSignatureError:
                fault = TokenFault.SIGNATURE  # another key may fit
            except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
                raise TokenRefusedError(_fault_of(error)) from error
        raise TokenRefusedError(fault)

    def _decoded(self, token: str, key: _Key) -> Mapping[str, Any]:
        return jwt.decode(
            token, key.public, algorithms=[key.algorithm], audience=self._audience, issuer=self._issuer,
            leeway=LEEWAY_SECONDS, options={"require": ["exp", "aud", "sub"]},
        )  # fmt: skip


def push_scope(lineage: str) -> str:
    """The scope that allows pushes into a lineage; ``*`` stands for all."""
    return f"push:{lineage}"


def _claims(claims: Mapping[str, Any]) -> TokenClaims:
    subject, scopes, quota = claims["sub"], claims.get("scope", ()), claims.get(QUOTA_CLAIM)
    scopes = scopes.split() if isinstance(scopes, str) else scopes
    listed = isinstance(scopes, Sequence) and all(isinstance(scope, str) for scope in scopes)
    counted = quota is None or (isinstance(quota, int) and not isinstance(quota, bool) and 0 <= quota < 1 << 63)
    if not (listed and counted and len(scopes) <= _MOST_SCOPES and 0 < len(subject) <= 256 and subject.isprintable()):
        raise ValueError("claims of another form")
    return TokenClaims(subject, frozenset(scopes), quota)


def _fault_of(error: Exception) -> TokenFault:
    known: Iterable[tuple[type[Exception], TokenFault]] = (
        (jwt.ExpiredSignatureError, TokenFault.EXPIRED),
        (jwt.ImmatureSignatureError, TokenFault.NOT_YET),
        (jwt.InvalidAudienceError, TokenFault.AUDIENCE),
        (jwt.InvalidIssuerError, TokenFault.ISSUER),
        (jwt.InvalidAlgorithmError, TokenFault.ALGORITHM),
        (jwt.DecodeError, TokenFault.MALFORMED),
    )
    return next((fault for kind, fault in known if isinstance(error, kind)), TokenFault.CLAIMS)


def _keys_in(path: Path, content: bytes) -> tuple[_Key, ...]:
    """The keys that can check signatures; others in the file are passed over."""
    if content.lstrip().startswith(b"{"):
        found = list(_jwks(path, content))
    else:
        found = [_Key(None, algorithm, key) for block in _PEM.findall(content) for algorithm, key in _pem(path, block)]
    if not found:
        raise ValueError(f"{path}: no public key of Ed25519, P-256 or RSA (2048 bits or more) in it")
    if len(found) > _MOST_KEYS:
        raise ValueError(f"{path}: more than {_MOST_KEYS} keys")
    return tuple(found)


def _jwks(path: Path, content: bytes) -> Iterable[_Key]:
    try:
        keys = json.loads(content).get("keys")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a JWKS: {error}") from error
    for entry in keys if isinstance(keys, list) else ():
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(entry).key
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        algorithm, key_id = _algorithm_of(key), entry.get("kid")
        if algorithm is not None and entry.get("alg", algorithm) == algorithm:
            yield _Key(key_id if isinstance(key_id, str) else None, algorithm, key)


def _pem(path: Path, block: bytes) -> Iterable[tuple[str, object]]:
    try:
        key = load_pem_public_key(block)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path}: not a public key: {error}") from error
    algorithm = _algorithm_of(key)
    return () if algorithm is None else ((algorithm, key),)


def _algorithm_of(key: object) -> str | None:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "EdDSA"
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return "ES256"
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        return "RS256"
    return None
