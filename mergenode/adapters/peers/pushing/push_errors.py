"""What a failed call means for the one who pushes: try again, or an error that says what to do."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from mergenode.adapters.peers.port.refusals import Refused, refusal_of
from mergenode.errors import FatalError
from mergenode.wire.v1.objects_pb2 import Refusal

_AGAIN = frozenset({
    grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
})  # fmt: skip
_HANDSHAKE = ("handshake", "certificate", "ssl", "tls")
_UNREACHABLE = (
    (("Connection refused",), "nothing listens there", "Check address and port, and that the node runs."),
    (
        ("Socket closed", "Connection reset", "EOF"),
        "it hangs up before anything is said",
        "A node with certificates wants TLS (--tls-ca) and to see yours (--tls-cert, --tls-key) or a token at its port "
        "for tokens; a certificate that expired, or that another authority signed, it does not take.",
    ),
    (("DNS resolution", "resolver", "Name or service"), "that name is not known", "Check the address."),
)
_MESSAGES = {
    grpc.StatusCode.UNAUTHENTICATED: (
        "the node does not know who pushes",
        "Name a certificate (--tls-cert, --tls-key) or a token (--token-file) that the node accepts.",
    ),
    grpc.StatusCode.PERMISSION_DENIED: (
        "the node knows you but does not let you push",
        "Ask its operator for the role pusher, or for a token with the scope push: of this lineage.",
    ),
    grpc.StatusCode.UNIMPLEMENTED: (
        "that is no node that takes pushes",
        "Check address and port, and that peers.intake.enabled is true there.",
    ),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call that may be tried again. ``retry_after``: seconds that the node asked for, 0 when it did not.

    ``answered``: the node itself said no.
    """

    message: str
    hint: str = ""
    retry_after: float = 0.0
    answered: bool = False


def judge(error: grpc.RpcError, address: str) -> Failure:
    """What to make of a failed call. Raises FatalError when trying again changes nothing."""
    status, said, refusal = _parts(error)
    if status is grpc.StatusCode.UNAVAILABLE and any(word in said.lower() for word in _HANDSHAKE):
        raise FatalError(
            f"{address}: no secure connection: {said}",
            hint="Check that --tls-ca holds the authority of the node, that your own certificate is not expired and "
            "signed by one that the node trusts, and that the node uses TLS at all.",
        ) from error
    if refusal is not None:
        return _refused(refusal, status, address, error)
    if status in _MESSAGES:
        message, hint = _MESSAGES[status]
        raise FatalError(f"{address}: {message}" + (f": {said}" if said else ""), hint=hint) from error
    if status is grpc.StatusCode.UNAVAILABLE:
        for signs, message, hint in _UNREACHABLE:
            if any(sign in said for sign in signs):
                return Failure(f"{address}: {message}", hint)
    if status in _AGAIN:
        return Failure(f"{address}: {said or status.name}")
    raise FatalError(f"{address}: {said or status.name}") from error


def _refused(refusal: Refused, status: grpc.StatusCode, address: str, error: grpc.RpcError) -> Failure:
    again = status in _AGAIN and refusal.code != Refusal.CODE_BAD_SCHEMA
    again = again or refusal.code in (Refusal.CODE_BUSY, Refusal.CODE_DRAINING)
    if not again:
        raise FatalError(f"{address}: {refusal.message}", hint=refusal.hint) from error
    return Failure(f"{address}: {refusal.message}", refusal.hint, refusal.retry_after, answered=True)


def _parts(error: grpc.RpcError) -> tuple[grpc.StatusCode, str, Refused | None]:
    """Status, text and refusal of a failed call."""
    if not isinstance(error, grpc.Call):
        return grpc.StatusCode.UNKNOWN, str(error), None
    return error.code() or grpc.StatusCode.UNKNOWN, error.details() or "", refusal_of(error)
