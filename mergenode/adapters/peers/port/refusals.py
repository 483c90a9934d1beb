"""Refusals: why a call was not served, in a form that both ends and other languages understand.

They travel as ``google.rpc.Status`` with one ``mergenode.v1.Refusal`` in the trailing metadata
``grpc-status-details-bin``, as grpc has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from uuid import UUID

import grpc
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from mergenode.wire.v1.objects_pb2 import Refusal

DETAILS = "grpc-status-details-bin"

Code = Refusal.Code

MOST_RETRY_SECONDS = 3600.0
_MOST_TEXT = 1024
_MOST_ALTERNATIVES = 16
_NODE_ID_BYTES = 16

STATUS_OF = {
    Refusal.CODE_UNSPECIFIED: grpc.StatusCode.FAILED_PRECONDITION,
    Refusal.CODE_BUSY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Refusal.CODE_BAD_SCHEMA: grpc.StatusCode.FAILED_PRECONDITION,
    Refusal.CODE_UNKNOWN_ROOT: grpc.StatusCode.NOT_FOUND,
    Refusal.CODE_STALE: grpc.StatusCode.FAILED_PRECONDITION,
    Refusal.CODE_NOT_ALLOWED: grpc.StatusCode.PERMISSION_DENIED,
    Refusal.CODE_TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    Refusal.CODE_DRAINING: grpc.StatusCode.UNAVAILABLE,
    Refusal.CODE_BANNED: grpc.StatusCode.PERMISSION_DENIED,
    Refusal.CODE_QUOTA: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""The grpc status that goes with a code unless the caller of ``abort`` knows better."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal as it came from another node, with everything in it bounded. ``retry_after``: seconds, 0 for never."""

    code: Code
    message: str
    hint: str = ""
    retry_after: float = 0.0
    alternatives: tuple[UUID, ...] = ()


def refusal(
    code: Code, message: str, hint: str = "", *, retry_after: float = 0.0, alternatives: Sequence[UUID] = ()
) -> Refusal:
    """A refusal to send: texts cut to 1024 characters, at most 16 alternatives, ``retry_after`` at most an hour."""
    return Refusal(
        code=code,
        message=message[:_MOST_TEXT],
        hint=hint[:_MOST_TEXT],
        retry_after_ms=round(1000 * min(max(retry_after, 0.0), MOST_RETRY_SECONDS)),
        alternatives=[node_id.bytes for node_id in alternatives[:_MOST_ALTERNATIVES]],
    )


async def abort(
    context: grpc.aio.ServicerContext[Any, Any], refused: Refusal, status: grpc.StatusCode | None = None
) -> NoReturn:
    """End the call with this refusal; raises what grpc wants to be raised."""
    code = status or STATUS_OF[refused.code]
    await context.abort(code, refused.message, (refusal_metadata(code, refused),))


def refusal_metadata(status: grpc.StatusCode, refused: Refusal) -> tuple[str, bytes]:
    """The trailing metadata that carries ``refused`` beside ``status``."""
    rich = Status(code=status.value[0], message=refused.message)
    rich.details.add().Pack(refused)
    return DETAILS, rich.SerializeToString()


def refusal_of(error: grpc.RpcError) -> Refused | None:
    """The refusal in an error of a call, sync or aio; None when there is none, or none that can be read.

    It came from outside: texts are cut and made printable, waits are at most an hour, unknown codes are unspecified.
    """
    metadata: Iterable[tuple[str, object]] | None = (
        error.trailing_metadata() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else None
    )
    found = Refusal()
    for key, value in metadata or ():
        if key != DETAILS or not isinstance(value, bytes):
            continue
        try:
            if any(detail.Unpack(found) for detail in Status.FromString(value).details):
                return _bounded(found)
        except DecodeError:
            return None
    return None


def _bounded(found: Refusal) -> Refused:
    known = found.code in Code.values()
    ids = [raw for raw in found.alternatives[:_MOST_ALTERNATIVES] if len(raw) == _NODE_ID_BYTES]
    return Refused(
        found.code if known else Refusal.CODE_UNSPECIFIED,
        _plain(found.message),
        _plain(found.hint),
        min(found.retry_after_ms / 1000, MOST_RETRY_SECONDS),
        tuple(UUID(bytes=raw) for raw in ids),
    )


def _plain(text: str) -> str:
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in text[:_MOST_TEXT])
