"""Whether names and shapes can belong to a fine-tune of the base: asked of an empty file, before weights travel."""

from __future__ import annotations

from pathlib import Path

import grpc

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.contribution import open_contribution
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.peers.intake.intake_refusals import RefusedError
from mergenode.errors import RejectedError, RejectReason
from mergenode.types import Digest
from mergenode.wire.v1.objects_pb2 import Refusal

_OF_VALUES = (RejectReason.TIED_WEIGHTS_DIFFER, RejectReason.ADAPTER_UNSUPPORTED)
"""May follow from values, which are not there yet: left to the fold."""


def check_base(declared: Digest | None, base: BaseModel) -> None:
    """Raises RefusedError when the pusher says that it was tuned from another base."""
    if declared is not None and declared != base.digest:
        raise RefusedError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"it was tuned from the base {declared}, the base here is {base.digest}",
            code=Refusal.CODE_BAD_SCHEMA,
            hint="Push it to the node of that base; `mergenode status` shows the base of a node.",
        )


def check_schema(folder: Path, base: BaseModel, limits: Limits) -> None:
    """Open ``folder``, whose weight file has its header and no values yet, as a contribution.

    Raises RefusedError (BAD_SCHEMA) with the reason that the fold would give.
    """
    try:
        open_contribution(folder, base, limits=limits).close()
    except RejectedError as error:
        if error.reason in _OF_VALUES:
            return
        raise RefusedError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"{error.reason}: {error.message}".replace(f"{folder.name}/", "").replace(f"{folder.name}: ", ""),
            code=Refusal.CODE_BAD_SCHEMA,
            hint=error.hint,
        ) from error
