"""What the intake says no with: a status of gRPC, and a ``Refusal`` in its details."""

from __future__ import annotations

import grpc

from mergenode.wire.v1.objects_pb2 import Refusal

DETAILS = "grpc-status-details-bin"
"""Where gRPC keeps the details of a status: a ``google.rpc.Status``."""

_TYPE_URL = b"type.googleapis.com/mergenode.v1.Refusal"


class RefusedError(Exception):
    """A call that is refused. ``code`` tells programs, ``message`` and ``hint`` tell people."""

    def __init__(
        self,
        status: grpc.StatusCode,
        message: str,
        *,
        code: Refusal.Code = Refusal.CODE_UNSPECIFIED,
        hint: str = "",
        retry_after_ms: int = 0,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint
        self.retry_after_ms = retry_after_ms

    @property
    def details(self) -> bytes:
        """The serialised ``google.rpc.Status``, by hand: code 1, message 2, details 3 (type 1, value 2)."""
        refusal = Refusal(
            code=self.code, message=self.message, hint=self.hint, retry_after_ms=self.retry_after_ms
        ).SerializeToString()
        number: int = self.status.value[0]
        packed = _field(1, _TYPE_URL) + _field(2, refusal)
        return bytes([1 << 3, number]) + _field(2, self.message.encode()) + _field(3, packed)


def refusal_in(details: bytes) -> Refusal | None:
    """The refusal inside a serialised ``google.rpc.Status``; None when there is none that can be read."""
    for number, value in _fields(details):
        if number == 3:
            inner = dict(_fields(value))
            if inner.get(1) == _TYPE_URL:
                try:
                    return Refusal.FromString(inner.get(2, b""))
                except ValueError:  # DecodeError is one
                    return None
    return None


def _field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _fields(data: bytes) -> list[tuple[int, bytes]]:
    """The fields with a length of a message, in order; what cannot be read ends the list."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data):
        number, kind = data[at] >> 3, data[at] & 7
        value, at = _read_varint(data, at + 1)
        if kind == 2 and at + value <= len(data):
            found.append((number, data[at : at + value]))
            at += value
        elif kind != 0:
            break
    return found


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            break
    return value, at
