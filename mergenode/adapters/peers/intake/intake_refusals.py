"""What the intake says no with: a status of gRPC, and a ``Refusal`` in its details."""

from __future__ import annotations

import grpc

from mergenode.wire.v1.objects_pb2 import Refusal


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
    def refusal(self) -> Refusal:
        """What travels in the details of the status."""
        return Refusal(code=self.code, message=self.message, hint=self.hint, retry_after_ms=self.retry_after_ms)
