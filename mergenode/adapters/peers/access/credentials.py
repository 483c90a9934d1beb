"""Certificates of this node, in force as long as their files say so: for the server, and for every new channel.

A rotation needs no restart. The server asks for the newest files in each handshake; connections that are open live on.
A channel keeps what it was made with, so whoever holds one looks at the generation and makes a new one when it grew.
While one authority follows another, the authority's file holds both.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from mergenode.adapters.peers.access.certificates import NAMELESS, Names, names_of
from mergenode.adapters.peers.access.rotating import Rotating

_HINT = "Set peers.tls to a certificate, its key and the authority, all PEM; `mergenode certs` makes some for a trial."


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. Without certificate and key only the other end proves who it is: for callers with tokens."""

    authority: Path
    certificate: Path | None = None
    key: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        if self.certificate is None or self.key is None:
            return (self.authority,)
        return (self.authority, self.certificate, self.key)


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """What the files held: parsed, and key and certificate fit. ``expires``: the first of the chain that ends."""

    authority: bytes
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    names: Names = NAMELESS
    expires: datetime | None = None

    def seconds_left(self, now: float) -> float | None:
        """Seconds from ``now`` (Unix time) until the certificate ends, negative afterwards; None without one."""
        return None if self.expires is None else self.expires.timestamp() - now


class Tls:
    """The files of one node or command. Safe to use from several threads."""

    def __init__(self, files: TlsFiles, told: Callable[[str], None]) -> None:
        """``told`` hears, once each, of changed files that make no sense; the ones before stay in force.

        Raises:
            FatalError: they make no sense now.
        """
        self.files = files
        self._files = Rotating(files.paths, lambda contents: _material(files.paths, contents), told, _HINT)

    def current(self) -> tuple[TlsMaterial, int]:
        """What is in force, and its generation, which grows when the files changed."""
        return self._files.current()

    def channel_credentials(self) -> tuple[grpc.ChannelCredentials, int]:
        """Credentials for a new channel, and their generation: when ``current`` says more, make a new channel."""
        material, generation = self.current()
        return grpc.ssl_channel_credentials(material.authority, material.key, material.certificate), generation

    def server_credentials(self, *, certificates: bool = True) -> grpc.ServerCredentials:
        """Credentials of a port. ``certificates``: callers have to show one that the authority signed.

        Without, nobody is asked for one, and callers have to be known by other means.
        """
        lock = threading.Lock()
        material, shown = self.current()

        def newest() -> grpc.ServerCertificateConfiguration | None:
            # Once per handshake, on a thread of grpc: nothing may be raised here, and None means as before.
            nonlocal shown
            with lock:
                material, generation = self.current()
                if generation == shown:
                    return None
                shown = generation
                return _configuration(material)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(material),
            newest,  # type: ignore[arg-type]  # the stub forgot that None is a right answer
            certificates,
        )


def _configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    assert material.key is not None and material.certificate is not None, "a server has a certificate"
    return grpc.ssl_server_certificate_configuration([(material.key, material.certificate)], material.authority)


def _material(paths: Sequence[Path], contents: Sequence[bytes]) -> TlsMaterial:
    _certificates(paths[0], contents[0])
    if len(paths) == 1:
        return TlsMaterial(contents[0])
    chain = _certificates(paths[1], contents[1])
    try:
        key = load_pem_private_key(contents[2], password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{paths[2]}: not a private key that can be read: {error}") from error
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != chain[0].public_key().public_bytes(*form):
        raise ValueError(f"{paths[2]} is not the key of the first certificate in {paths[1]}")
    try:
        names = names_of(chain[0])
    except ValueError as error:
        raise ValueError(f"{paths[1]}: its names cannot be read: {error}") from error
    expires = min(certificate.not_valid_after_utc for certificate in chain)
    return TlsMaterial(contents[0], contents[1], contents[2], names, expires)


def _certificates(path: Path, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise ValueError(f"{path}: not certificates in PEM: {error}") from error
