"""Whether there is room for one more upload: decided before its first byte."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import grpc

from mergenode.adapters.durable import free_bytes
from mergenode.adapters.peers.intake.allowances import SMALLEST_CHARGE, Allowances
from mergenode.adapters.peers.intake.intake_refusals import RefusedError
from mergenode.adapters.peers.intake.upload_terms import Terms
from mergenode.wire.limits import WireLimits
from mergenode.wire.v1.objects_pb2 import Refusal

_WIRE = WireLimits(manifest_bytes=16 << 20, tensors=100_000)
"""Tighter than between nodes: a manifest in memory takes several times its length, and several pushers may work."""
_BUSY_SECONDS = 15.0
_NEVER_MS = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadLimits:
    """Sizes in bytes. ``most_uploads``: open at once, of all pushers; ``most_per_pusher``: of one."""

    max_upload: int = 64 << 30
    daily_quota: int = 256 << 30
    min_free: int = 2 << 30
    expire_seconds: float = 3600.0
    most_uploads: int = 16
    most_per_pusher: int = 4
    wire: WireLimits = field(default_factory=lambda: _WIRE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What is spent already. ``outstanding``: bytes of the disk that open uploads may still take."""

    place: Path
    quota: int
    account: Allowances
    open_bytes: int
    open_uploads: int
    all_uploads: int
    outstanding: int


def admit(terms: Terms, budget: Budget, limits: UploadLimits) -> float:
    """Seconds after which to ask again, 0 when the upload may begin.

    Raises RefusedError: TOO_LARGE, QUOTA (of the pusher, or of the disk).
    """
    largest = min(limits.max_upload, limits.wire.model_bytes)
    for what, size, most in (
        ("weights", terms.weight_bytes, largest),
        ("manifest", terms.manifest_bytes, limits.wire.manifest_bytes),
    ):
        if size > most:
            raise RefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{size} bytes of {what}, one upload may have {most}",
                code=Refusal.CODE_TOO_LARGE,
                hint="Push the adapter instead of the full checkpoint, or ask for a larger peers.intake.max_upload.",
            )
    if budget.open_uploads >= limits.most_per_pusher or budget.all_uploads >= limits.most_uploads:
        return _BUSY_SECONDS
    _check_quota(terms, budget)
    _check_disk(terms, budget, limits)
    return 0.0


def _check_quota(terms: Terms, budget: Budget) -> None:
    needed = max(terms.weight_bytes, SMALLEST_CHARGE)
    spent = budget.account.spent(terms.owner)
    over = spent + budget.open_bytes + needed - budget.quota
    if over <= 0:
        return
    seconds = budget.account.seconds_until(terms.owner, over)
    when = "" if seconds is None else f"; there is room in {seconds / 3600:.1f} hours"
    raise RefusedError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"{terms.owner} sent {spent} bytes within 24 hours and has {budget.open_bytes} under way; with {needed} more "
        f"that is above its quota of {budget.quota}{when}",
        code=Refusal.CODE_QUOTA,
        hint="Wait, push adapters instead of full checkpoints, or ask for a larger quota.",
        retry_after_ms=_NEVER_MS if seconds is None else int(seconds * 1000) + 1,
    )


def _check_disk(terms: Terms, budget: Budget, limits: UploadLimits) -> None:
    free = free_bytes(budget.place) - budget.outstanding
    needed = terms.weight_bytes + terms.manifest_bytes
    if free - needed < limits.min_free:
        raise RefusedError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"the disk of the node has {max(0, free)} bytes left; {needed} more would leave less than "
            f"the {limits.min_free} that it keeps free",
            code=Refusal.CODE_QUOTA,
            hint="Tell its operator: space has to be freed there.",
        )
