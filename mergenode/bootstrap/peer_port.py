"""The gRPC port as the settings want it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address

from mergenode.adapters.peers.access.authorising import Authoriser
from mergenode.adapters.peers.access.callers import Callers, Role
from mergenode.adapters.peers.access.credentials import Tls, TlsFiles
from mergenode.adapters.peers.access.tokens import TokenVerifier
from mergenode.adapters.peers.port.addresses import host_of
from mergenode.adapters.peers.port.draining import Draining
from mergenode.adapters.peers.port.server import PeerServer, Port, Register
from mergenode.settings.peers import PeersSettings

Told = Callable[[str], None]


def tls_of(settings: PeersSettings, told: Told) -> Tls | None:
    """The certificates of the settings, or None where there are none. Raises FatalError when they make no sense."""
    files = settings.tls
    if files.authority is None:
        return None
    return Tls(TlsFiles(files.authority, files.certificate, files.key), told)


def peer_port(
    settings: PeersSettings,
    tls: Tls | None,
    register: Sequence[Register],
    told: Told,
    refused: Callable[[str, str], None],
    answered: Callable[[str, str, float], None],
) -> PeerServer:
    """The server, not yet started, of ``peers.listen``, which is set, and of ``peers.tokens.listen`` where it is.

    ``tls``: as ``tls_of`` gives it; channels to others use it, too. ``told``: warnings for the log; ``refused`` and
    ``answered`` as ``Authoriser`` has them.

    Raises:
        FatalError: the keys of tokens cannot be used.
    """
    assert settings.address is not None, "peers.listen is set"
    tokens = settings.tokens
    verifier = None if tokens.keys is None else TokenVerifier(tokens.keys, tokens.audience, tokens.issuer, told)
    patterns = {role: getattr(settings.roles, role.value) for role in Role}
    callers = Callers(patterns, verifier, trusting=tls is None)
    ports = [Port(*settings.address, tls.server_credentials() if tls else None)]
    if tls and tokens.address is not None:
        ports.append(Port(*tokens.address, tls.server_credentials(certificates=False), "peers.tokens.listen"))
    if tls and (complaint := _uncovered(settings, tls)):
        told(complaint)
    authoriser = Authoriser(callers, Draining(), refused, answered)
    return PeerServer(ports, register, authoriser, reflect=settings.reflection)


def _uncovered(settings: PeersSettings, tls: Tls) -> str:
    """A warning when others would refuse the certificate for the address that they are told; empty otherwise."""
    address = settings.advertise or settings.listen or ""
    host = host_of(address)
    if not settings.advertise and is_wildcard(host):
        return ""  # under which name others call is not known here
    if tls.current()[0].names.cover(host):
        return ""
    return f"the certificate {tls.files.certificate} is not for {host}: nodes that call {address} will refuse it"


def is_wildcard(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
