"""A refusal comes out of the details of a status as it went in, whatever else lies there."""

from __future__ import annotations

import grpc
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.peers.intake.intake_refusals import RefusedError, refusal_in
from mergenode.wire.v1.objects_pb2 import Refusal

TEXT = st.text(max_size=300)


@settings(deadline=None)
@given(TEXT, TEXT, st.integers(0, 1 << 40), st.sampled_from(Refusal.Code.values()))
def test_there_and_back(message: str, hint: str, after: int, code: int) -> None:
    error = RefusedError(
        grpc.StatusCode.RESOURCE_EXHAUSTED, message, code=code, hint=hint,
        retry_after_ms=after,
    )  # fmt: skip
    found = refusal_in(error.details)
    assert found is not None
    assert (found.code, found.message, found.hint, found.retry_after_ms) == (code, message, hint, after)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_garbage_holds_none(data: bytes) -> None:
    found = refusal_in(data)
    assert found is None or isinstance(found, Refusal)
