"""Tokens: what counts, and that nothing else does."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.peers.access.tokens import TokenFault, TokenRefusedError, TokenVerifier
from mergenode.errors import FatalError

ED = ed25519.Ed25519PrivateKey.generate()
EC = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
KEYS: Mapping[str, Any] = {"EdDSA": ED, "ES256": EC, "RS256": RSA}
OTHER = ed25519.Ed25519PrivateKey.generate()


class Later(float):
    """A time so many seconds after the one at which a test runs."""


def public(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(key: Any, **more: str) -> dict[str, Any]:
    algorithm = next(name for name, known in KEYS.items() if type(known) is type(key))
    made = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)  # type: ignore[call-arg]
    return {**made, **more}


def claims(**changed: Any) -> dict[str, Any]:
    said = {"sub": "team", "aud": "mergenode", "iss": "us", "exp": time.time() + 3600, "scope": "push:a push:b"}
    told = {name: value for name, value in {**said, **changed}.items() if value is not ...}
    return {name: time.time() + value if isinstance(value, Later) else value for name, value in told.items()}


def token(key: Any = ED, algorithm: str = "EdDSA", kid: str | None = None, **changed: Any) -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(**changed), key, algorithm=algorithm, headers=headers)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_bytes(b"\n".join(map(public, KEYS.values())))
    return file


@pytest.fixture
def verifier(keys: Path) -> TokenVerifier:
    return TokenVerifier(keys, "mergenode", "us", pytest.fail)


def fault(verifier: TokenVerifier, text: str) -> TokenFault:
    with pytest.raises(TokenRefusedError) as refused:
        verifier.verify(text)
    return refused.value.fault


@pytest.mark.parametrize("algorithm", KEYS)
def test_each_kind_of_key_is_taken_with_its_algorithm(verifier: TokenVerifier, algorithm: str) -> None:
    said = verifier.verify(token(KEYS[algorithm], algorithm, mergenode_quota=5))
    assert (said.subject, said.scopes, said.quota) == ("team", {"push:a", "push:b"}, 5)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"exp": Later(-120)}, TokenFault.EXPIRED),
        ({"nbf": Later(600)}, TokenFault.NOT_YET),
        ({"iat": Later(600)}, TokenFault.NOT_YET),
        ({"aud": "other"}, TokenFault.AUDIENCE),
        ({"aud": ...}, TokenFault.CLAIMS),
        ({"iss": "them"}, TokenFault.ISSUER),
        ({"exp": ...}, TokenFault.CLAIMS),
        ({"sub": ...}, TokenFault.CLAIMS),
        ({"sub": ""}, TokenFault.CLAIMS),
        ({"sub": "a\nb"}, TokenFault.CLAIMS),
        ({"sub": "a" * 257}, TokenFault.CLAIMS),
        ({"scope": 5}, TokenFault.CLAIMS),
        ({"scope": [1]}, TokenFault.CLAIMS),
        ({"scope": {"push:a": 1}}, TokenFault.CLAIMS),
        ({"scope": ["x"] * 257}, TokenFault.CLAIMS),
        ({"mergenode_quota": -1}, TokenFault.CLAIMS),
        ({"mergenode_quota": True}, TokenFault.CLAIMS),
        ({"mergenode_quota": "5"}, TokenFault.CLAIMS),
        ({"mergenode_quota": 1 << 63}, TokenFault.CLAIMS),
        ({"exp": float("inf")}, TokenFault.MALFORMED),
    ],
    ids=str,
)
def test_what_it_says_has_to_be_right(verifier: TokenVerifier, changed: dict[str, Any], expected: TokenFault) -> None:
    assert fault(verifier, token(**changed)) is expected


@pytest.mark.parametrize("changed", [{"exp": Later(-30)}, {"nbf": Later(30)}, {"iat": Later(30)}])
def test_clocks_may_differ_by_less_than_a_minute(verifier: TokenVerifier, changed: dict[str, float]) -> None:
    assert verifier.verify(token(**changed))


def test_without_scopes_it_is_valid_and_allows_nothing(verifier: TokenVerifier) -> None:
    assert verifier.verify(token(scope=...)).scopes == frozenset()


def test_any_issuer_counts_where_none_is_set(keys: Path) -> None:
    assert TokenVerifier(keys, "mergenode", None, pytest.fail).verify(token(iss="whoever"))


def encoded(part: object) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forged(header: Mapping[str, object], sign: Callable[[bytes], bytes]) -> str:
    body = f"{encoded(header)}.{encoded(claims())}"
    return f"{body}.{encoded(sign(body.encode()))}"


def hs256(secret: bytes) -> str:
    return forged({"alg": "HS256"}, lambda body: hmac.new(secret, body, hashlib.sha256).digest())


def test_nobody_gets_in_without_a_private_key(verifier: TokenVerifier) -> None:
    assert fault(verifier, forged({"alg": "none"}, lambda _: b"")) is TokenFault.ALGORITHM
    assert fault(verifier, forged({"alg": "None"}, lambda _: b"")) is TokenFault.ALGORITHM
    assert fault(verifier, forged({}, lambda _: b"")) is TokenFault.ALGORITHM
    assert fault(verifier, forged({"alg": ["EdDSA"]}, lambda _: b"")) is TokenFault.ALGORITHM
    for key in KEYS.values():
        for secret in (public(key), public(key).strip(), public(key).replace(b"\n", b"")):
            assert fault(verifier, hs256(secret)) is TokenFault.ALGORITHM
    assert fault(verifier, token(OTHER)) is TokenFault.SIGNATURE
    assert fault(verifier, forged({"alg": "ES256"}, lambda _: bytes(64))) is TokenFault.SIGNATURE
    head, _, signature = token().split(".")
    changed = encoded({**claims(), "sub": "admin"})
    assert fault(verifier, f"{head}.{changed}.{signature}") is TokenFault.SIGNATURE
    own = forged({"alg": "EdDSA", "jwk": jwk(OTHER), "jku": "http://127.0.0.1:1/", "x5u": "file:///"}, OTHER.sign)
    assert fault(verifier, own) is TokenFault.SIGNATURE, "keys that a token brings along are not looked at"


def test_a_key_is_used_with_its_own_algorithm_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(public(ED))
    verifier = TokenVerifier(file, "mergenode", "us", pytest.fail)
    assert fault(verifier, token(EC, "ES256")) is TokenFault.UNKNOWN_KEY
    assert fault(verifier, token(RSA, "RS256")) is TokenFault.UNKNOWN_KEY


def test_what_is_too_long_or_no_token_is_not_looked_into(verifier: TokenVerifier) -> None:
    assert fault(verifier, "a" * 8193) is TokenFault.OVERSIZED
    assert fault(verifier, token(padding="x" * 9000)) is TokenFault.OVERSIZED
    for text in ("", ".", "..", "a.b.c", "é.é.é", "[" * 8000, forged({"alg": "EdDSA", "b64": False}, ED.sign)):
        assert fault(verifier, text) is TokenFault.MALFORMED
    deep = encoded(b'{"alg":"EdDSA","x":' + b"[" * 4000)
    assert fault(verifier, f"{deep}.e30.e30") is TokenFault.MALFORMED


SEGMENTS = st.lists(st.binary(max_size=60), max_size=4).map(lambda parts: ".".join(map(encoded, parts)))


@given(st.text(max_size=300) | SEGMENTS)
@settings(deadline=None, max_examples=200)
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(TokenRefusedError):
        FUZZED.verify(text)


@given(st.dictionaries(st.sampled_from(["sub", "aud", "exp", "iss", "scope", "nbf", "iat", "mergenode_quota", "jti"]),
       st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3), max_leaves=5)))  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_signed_claims_of_any_form_never_break_it(said: dict[str, Any]) -> None:
    body = f"{encoded({'alg': 'EdDSA'})}.{encoded({**claims(), **said})}"
    with contextlib.suppress(TokenRefusedError):
        FUZZED.verify(f"{body}.{encoded(ED.sign(body.encode()))}")


class TestKeyFiles:
    def test_a_jwks_finds_keys_by_their_id(self, tmp_path: Path) -> None:
        file = tmp_path / "keys.json"
        file.write_text(json.dumps({"keys": [jwk(ED, kid="one"), jwk(OTHER, kid="two"), jwk(EC)]}))
        verifier = TokenVerifier(file, "mergenode", "us", pytest.fail)
        assert verifier.verify(token(ED, kid="one")) and verifier.verify(token(OTHER, kid="two"))
        assert verifier.verify(token(OTHER)), "without an id all are tried"
        assert verifier.verify(token(EC, "ES256", kid="any")), "a key without an id fits every id"
        assert fault(verifier, token(ED, kid="two")) is TokenFault.SIGNATURE
        assert fault(verifier, token(ED, kid="three")) is TokenFault.UNKNOWN_KEY
        assert fault(verifier, token(ED, kid="../../etc/passwd")) is TokenFault.UNKNOWN_KEY

    def test_keys_of_no_use_are_passed_over(self, tmp_path: Path) -> None:
        secret = {"kty": "oct", "k": encoded(b"0" * 32), "kid": "s"}
        weak = jwk(rsa.generate_private_key(65537, 1024), kid="weak")
        private = json.loads(jwt.get_algorithm_by_name("EdDSA").to_jwk(OTHER)) | {"kid": "private"}
        file = tmp_path / "keys.json"
        useless = [secret, weak, private, jwk(OTHER, use="enc"), {"kty": "EC"}, 5, {}]
        file.write_text(json.dumps({"keys": [*useless, jwk(ED, kid="good")]}))
        verifier = TokenVerifier(file, "mergenode", "us", pytest.fail)
        assert verifier.verify(token(ED, kid="good"))
        assert fault(verifier, token(OTHER)) is TokenFault.SIGNATURE
        file.write_text(json.dumps({"keys": useless}))
        with pytest.raises(FatalError, match="no public key"):
            TokenVerifier(file, "mergenode", "us", pytest.fail)

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"keys": 5}', b"text", b"{" * 10000])
    def test_a_file_without_keys_is_fatal_at_the_start(self, tmp_path: Path, content: bytes) -> None:
        file = tmp_path / "keys"
        file.write_bytes(content)
        with pytest.raises(FatalError, match="keys"):
            TokenVerifier(file, "mergenode", None, pytest.fail)

    def test_a_private_key_in_pem_is_no_public_one(self, tmp_path: Path) -> None:
        file = tmp_path / "keys"
        file.write_bytes(ED.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with pytest.raises(FatalError, match="no public key"):
            TokenVerifier(file, "mergenode", None, pytest.fail)

    def test_keys_change_under_a_running_node(self, keys: Path) -> None:
        told: list[str] = []
        verifier = TokenVerifier(keys, "mergenode", "us", told.append)
        keys.write_bytes(b"half a fi")
        assert verifier.verify(token(ED)) and len(told) == 1
        keys.write_bytes(public(OTHER))
        assert verifier.verify(token(OTHER)) and len(told) == 1
        assert fault(verifier, token(ED)) is TokenFault.SIGNATURE


def _fuzzed() -> TokenVerifier:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as name:
        file = Path(name, "keys")
        file.write_bytes(public(ED))
        return TokenVerifier(file, "mergenode", "us", lambda _: None)


FUZZED = _fuzzed()
"""Its file is gone, so it keeps the key that it has."""
