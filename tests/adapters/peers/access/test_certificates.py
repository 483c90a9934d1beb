"""Certificates for trials, checked by another implementation of the rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import DNSName, verification

from mergenode.adapters.peers.access.certificates import (
    NAMELESS,
    Names,
    Signed,
    names_of,
    new_authority,
    new_certificate,
)
from mergenode.errors import UsageError

AUTHORITY = new_authority(30)


def parsed(signed: Signed) -> x509.Certificate:
    return x509.load_pem_x509_certificate(signed.certificate)


def verifier(*authorities: Signed, client: bool = False) -> verification.ServerVerifier | verification.ClientVerifier:
    builder = verification.PolicyBuilder().store(verification.Store([parsed(signed) for signed in authorities]))
    return builder.build_client_verifier() if client else builder.build_server_verifier(DNSName("node-a.example.org"))


def test_a_node_serves_and_calls() -> None:
    made = parsed(new_certificate(AUTHORITY, "peer", "node-a", ("node-a.example.org", "10.0.0.7", "::1"), 5))
    assert verifier(AUTHORITY).verify(made, [])
    assert verifier(AUTHORITY, client=True).verify(made, [])
    names = names_of(made)
    assert names.uris == ("spiffe://mergenode/peer/node-a",) and names.dns == ("node-a.example.org",)
    assert [str(address) for address in names.addresses] == ["10.0.0.7", "::1"]
    assert made.not_valid_after_utc - datetime.now(UTC) > timedelta(days=4)


@pytest.mark.parametrize("role", ["pusher", "admin"])
def test_people_call_and_cannot_serve(role: str) -> None:
    made = parsed(new_certificate(AUTHORITY, role, "alice", (), 5))
    assert verifier(AUTHORITY, client=True).verify(made, [])
    with pytest.raises(verification.VerificationError):
        verifier(AUTHORITY).verify(made, [])


def test_what_an_authority_signed_signs_nothing() -> None:
    leaf = new_certificate(AUTHORITY, "peer", "node-a", ("node-a.example.org",), 5)
    below = parsed(new_certificate(leaf, "admin", "mallory", ("node-a.example.org",), 5))
    with pytest.raises(verification.VerificationError):
        verifier(AUTHORITY).verify(below, [parsed(leaf)])


def test_another_authority_of_the_same_name_is_another() -> None:
    made = parsed(new_certificate(new_authority(30), "peer", "node-a", ("node-a.example.org",), 5))
    with pytest.raises(verification.VerificationError):
        verifier(AUTHORITY).verify(made, [])


def test_both_authorities_count_while_one_follows_the_other() -> None:
    newer = new_authority(30)
    for authority in (AUTHORITY, newer):
        made = parsed(new_certificate(authority, "peer", "node-a", ("node-a.example.org",), 5))
        assert verifier(AUTHORITY, newer).verify(made, [])


def test_no_certificate_outlives_its_authority() -> None:
    made = parsed(new_certificate(AUTHORITY, "peer", "node-a", ("a",), 3000))
    assert made.not_valid_after_utc == parsed(AUTHORITY).not_valid_after_utc


@pytest.mark.parametrize("host", ["", "a:50", "a b", "-", "a..b", "höst", "a" * 64, "http://a", "*", "a.*.b", "a\n"])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(UsageError):
        new_certificate(AUTHORITY, "peer", "node-a", (host,), 5)


def test_a_key_that_is_not_the_authoritys_signs_nothing() -> None:
    for key in (new_authority(1).key, b"no key"):
        with pytest.raises(UsageError):
            new_certificate(Signed(AUTHORITY.certificate, key), "peer", "node-a", ("a",), 5)


def test_private_keys_are_not_shown() -> None:
    assert "PRIVATE" not in repr(AUTHORITY) and load_pem_private_key(AUTHORITY.key, None)


def test_an_address_is_covered_by_its_own_kind_of_name() -> None:
    names = names_of(
        parsed(new_certificate(AUTHORITY, "peer", "n", ("a.example.org", "*.b.org", "10.0.0.7", "::1"), 5))
    )
    assert all(map(names.cover, ["a.example.org", "A.Example.org.", "x.b.org", "10.0.0.7", "::1", "0:0:0:0:0:0:0:1"]))
    assert not any(map(names.cover, ["b.org", "y.x.b.org", "10.0.0.8", "example.org", "", "n"]))
    assert not Names(dns=("10.0.0.7",)).cover("10.0.0.7"), "an IP address is never a DNS name"
    assert names_of(parsed(AUTHORITY)) == NAMELESS
