"""What a certificate says, for people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from cryptography import x509

from mergenode.adapters.peers.access.certificates import TRUST_DOMAIN, names_of
from mergenode.errors import UsageError

_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """``roles``: those that the default patterns of ``peers.roles`` give; ``days_left``: whole days, from now."""

    subject: str
    names: tuple[str, ...]
    roles: tuple[str, ...]
    issuer: str
    authority: bool
    begins: datetime
    ends: datetime
    days_left: int
    state: Literal["valid", "expired", "not yet valid"]


def facts_in(path: Path) -> list[CertificateFacts]:
    """The certificates of a PEM file, in its order.

    Raises:
        UsageError: there are none, or they cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return [_facts(certificate) for certificate in x509.load_pem_x509_certificates(stream.read(_MOST_BYTES))]
    except ValueError as error:
        raise UsageError(f"{path}: not certificates in PEM: {error}", hint="give a file such as tls.crt") from error


def _facts(certificate: x509.Certificate) -> CertificateFacts:
    names, now = names_of(certificate), datetime.now(UTC)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    roles = [uri.split("/")[3] for uri in names.uris if uri.startswith(f"spiffe://{TRUST_DOMAIN}/")]
    return CertificateFacts(
        subject=certificate.subject.rfc4514_string(),
        names=(*names.uris, *names.dns, *map(str, names.addresses)),
        roles=tuple(role for role in roles if role in ("peer", "pusher", "admin")),
        issuer=certificate.issuer.rfc4514_string(),
        authority=_is_authority(certificate),
        begins=begins,
        ends=ends,
        days_left=(ends - now).days,
        state="expired" if now > ends else "not yet valid" if now < begins else "valid",
    )


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
