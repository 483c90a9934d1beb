"""What travels in the details of a status is what was refused. The way there and back: ``port/test_refusals.py``."""

from __future__ import annotations

import grpc
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.peers.intake.intake_refusals import RefusedError
from mergenode.wire.v1.objects_pb2 import Refusal

TEXT = st.text(max_size=300)


@settings(deadline=None)
@given(TEXT, TEXT, st.integers(0, 1 << 40), st.sampled_from(Refusal.Code.values()))
def test_what_travels(message: str, hint: str, after: int, code: int) -> None:
    error = RefusedError(
        grpc.StatusCode.RESOURCE_EXHAUSTED, message, code=code, hint=hint,
        retry_after_ms=after,
    )  # fmt: skip
    found = Refusal.FromString(error.refusal.SerializeToString())
    assert (found.code, found.message, found.hint, found.retry_after_ms) == (code, message, hint, after)
