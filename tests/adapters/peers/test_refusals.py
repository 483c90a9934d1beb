"""Refusals in the details of a status: what is packed is read, what is broken is no refusal."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from mergenode.adapters.peers.port.refusals import DETAILS, refusal_metadata, refusal_of
from mergenode.wire.v1 import objects_pb2


class Failure(grpc.RpcError, grpc.Call):
    """A failed call with the given trailing metadata."""

    def __init__(self, *metadata: tuple[str, Any]) -> None:
        self._metadata = metadata

    def trailing_metadata(self) -> Any:
        return self._metadata

    def _none(self, *_: Any) -> Any:
        raise NotImplementedError

    initial_metadata = code = details = is_active = time_remaining = cancel = add_callback = _none


REFUSAL = objects_pb2.Refusal(code=objects_pb2.Refusal.CODE_BUSY, message="full", hint="later", retry_after_ms=5)


def test_what_is_packed_is_read() -> None:
    metadata = refusal_metadata(grpc.StatusCode.RESOURCE_EXHAUSTED, REFUSAL)
    assert refusal_of(Failure(("other", "x"), metadata)) == REFUSAL


@pytest.mark.parametrize("value", [b"", b"\xff" * 40, b"\x08\x05", b"x" * (1 << 20), "text"])
def test_what_is_broken_is_no_refusal(value: Any) -> None:
    assert refusal_of(Failure((DETAILS, value))) is None
    assert refusal_of(Failure()) is None
    assert refusal_of(grpc.RpcError()) is None
