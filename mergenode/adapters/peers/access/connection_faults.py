"""Why a connection did not come about, as far as grpc lets one see it."""

from __future__ import annotations

import grpc

from mergenode.adapters.peers.access.credentials import TlsFiles, TlsMaterial
from mergenode.adapters.peers.port.addresses import host_of

_ANOTHER_NAME = "Hostname Verification Check failed"
_SIGNS = (
    ("certificate has expired", "shows a certificate that has expired"),
    ("certificate is not yet valid", "shows a certificate that is not valid yet; one of the clocks may be wrong"),
    ("CERTIFICATE_VERIFY_FAILED", "shows a certificate that was not signed by {authority}"),
    (_ANOTHER_NAME, "shows a certificate that is not for the name {host}"),
    ("WRONG_VERSION_NUMBER", "does not speak TLS; this side does"),
    ("Connection refused", "refuses connections: nothing listens there"),
)
_CLOSED = ("Socket closed", "Connection reset", "Handshake failed", "handshake failed")


def connection_fault(
    error: grpc.RpcError, address: str, tls: tuple[TlsFiles, TlsMaterial] | None, now: float, name: str = ""
) -> str | None:
    """One sentence on why ``address`` could not be reached, or None when grpc tells nothing of certificates.

    ``tls``: what this side used, None for none; ``now``: Unix time; ``name``: as of ``open_channel``. A server that
    does not like this side's certificate only hangs up, so that part is a guess from what is known here.
    """
    details = _details(error)
    if not details:
        return None
    if name and _ANOTHER_NAME in details:
        return (
            f"{address} shows a certificate that is not for {name}, the name that this address was found under: issue "
            f"that node a certificate with the DNS name {name}, too (cert-manager: dnsNames; for a trial: `mergenode "
            f"certs node DIR NAME --host {name}`)"
        )
    where = {"host": host_of(address), "authority": tls[0].authority if tls else ""}
    for sign, meaning in _SIGNS:
        if sign in details:
            return f"{address} {meaning.format(**where)}"
    return f"{address} hung up: {_guess(tls, now)}" if any(sign in details for sign in _CLOSED) else None


def is_certificate_fault(error: grpc.RpcError) -> bool:
    """Whether this side refused the certificate of the other."""
    details = _details(error)
    return any(sign in details for sign in (_ANOTHER_NAME, "CERTIFICATE_VERIFY_FAILED"))


def _details(error: grpc.RpcError) -> str:
    """What grpc says of a connection that did not come about; empty where there was one."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError) or error.code() is not grpc.StatusCode.UNAVAILABLE:
        return ""
    return error.details() or ""


def _guess(tls: tuple[TlsFiles, TlsMaterial] | None, now: float) -> str:
    if tls is None:
        return "it may want TLS, which this side does not use"
    files, material = tls
    left = material.seconds_left(now)
    if left is None:
        return "it may want a certificate, and there is none here"
    if left < 0:
        return f"the certificate {files.certificate} of this side has expired"
    return f"it may not accept {files.certificate}, being signed by another authority"
