"""Certificates for trials: an authority of one's own and what it signs. Production uses cert-manager or the like.

Everything is ECDSA on P-256. What a certificate may do in mergenode follows from its SPIFFE name,
``spiffe://mergenode/ROLE/NAME``; the default patterns of ``peers.roles`` read it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mergenode.errors import UsageError

TRUST_DOMAIN = "mergenode"
AUTHORITY_NAME = "mergenode trial authority"

_EARLIER = timedelta(hours=2)
"""Certificates count from a little before they are made: clocks of other machines may be an hour behind."""

_RENEW = "Make the folder anew: `mergenode certs init DIR --force`, then all certificates."


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Names:
    """What a certificate says of its holder. DNS names may begin with ``*.``"""

    uris: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()

    def cover(self, host: str) -> bool:
        """Whether a client that called ``host`` (a name or an IP address without brackets) accepts the certificate."""
        try:
            return ip_address(host) in self.addresses
        except ValueError:
            name = host.lower().rstrip(".")
        wild = f"*.{name.partition('.')[2]}"
        return any(known.lower() in (name, wild) for known in self.dns)


NAMELESS = Names()


def spiffe_name(role: str, name: str) -> str:
    """The URI of ``name`` in ``role``: peer, pusher or admin."""
    return f"spiffe://{TRUST_DOMAIN}/{role}/{name}"


def new_authority(days: int) -> Signed:
    """A certificate that may sign those of nodes and people, and nothing that signs others."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, AUTHORITY_NAME)])
    builder = (
        _begun(subject, subject, key.public_key(), datetime.now(UTC) + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
    )
    return _packed(builder.sign(key, SHA256()), key)


def new_certificate(authority: Signed, role: str, name: str, hosts: tuple[str, ...], days: int) -> Signed:
    """A certificate for ``name`` in ``role``. With ``hosts`` (DNS names, IP addresses) it serves, too.

    It ends with the authority at the latest.

    Raises:
        UsageError: a host is neither a DNS name nor an IP address, or key and certificate of the authority differ.
    """
    signer, signing_key = _authority(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    ends = min(datetime.now(UTC) + timedelta(days=days), signer.not_valid_after_utc)
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH] + [ExtendedKeyUsageOID.SERVER_AUTH] * bool(hosts)
    names = [x509.UniformResourceIdentifier(spiffe_name(role, name)), *map(_host, hosts)]
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key())
    builder = (
        _begun(subject, signer.subject, key.public_key(), ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(issuer_id, critical=False)
    )
    return _packed(builder.sign(signing_key, SHA256()), key)


def names_of(certificate: x509.Certificate) -> Names:
    """The subject alternative names of a certificate. Raises ValueError when they cannot be read."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Names()
    return Names(
        uris=tuple(found.get_values_for_type(x509.UniformResourceIdentifier)),
        dns=tuple(found.get_values_for_type(x509.DNSName)),
        addresses=tuple(
            address
            for address in found.get_values_for_type(x509.IPAddress)
            if isinstance(address, IPv4Address | IPv6Address)
        ),
    )


def _authority(pair: Signed) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate, key = x509.load_pem_x509_certificate(pair.certificate), load_pem_private_key(pair.key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"the authority cannot be read: {error}", hint=_RENEW) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise UsageError("the key of the authority is not that of its certificate", hint=_RENEW)
    return certificate, key


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(datetime.now(UTC), ends) - _EARLIER)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature, key_cert_sign=key_cert_sign, crl_sign=crl_sign,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    labels = host.removeprefix("*.").split(".")
    plain = all(label and len(label) < 64 and label.replace("-", "").isalnum() for label in labels)
    if not (host.isascii() and plain and len(host) < 254):
        raise UsageError(
            f"--host {host!r} is neither a DNS name nor an IP address",
            hint="give what other nodes call, without a port: node-a.example.org or 10.0.0.7",
        )
    return x509.DNSName(host)


def _packed(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Signed:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Signed(certificate.public_bytes(Encoding.PEM), private)
