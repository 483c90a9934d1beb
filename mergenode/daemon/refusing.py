"""What every node refuses, whatever its settings: decided from values, before gates are asked."""

from __future__ import annotations

from math import hypot, isfinite

from mergenode.errors import RejectedError, RejectReason
from mergenode.types import Candidate, Digest, FoldResult

DIVERGED = 10.0
"""Norm of an update relative to the base from which on no other model explains it: it diverged, or bits flipped."""


def judge_promise(candidate: Candidate, base: Digest) -> None:
    """Refuse what its pusher says was tuned from another base, before anything is read. Raises RejectedError.

    For an adapter this is the only way to know: its few numbers look the same whatever they are added to.
    """
    if candidate.base is not None and candidate.base != base:
        raise RejectedError(
            RejectReason.OTHER_BASE,
            f"{candidate.name}: its commit marker says it was tuned from {candidate.base}, the base here is {base}",
            hint="Push it to the node of that base; `mergenode status` shows the base of a node.",
        )


def judge(candidate: Candidate, result: FoldResult, max_relative_norm: float) -> None:
    """Refuse what was read completely and still must not enter the merge. Raises RejectedError."""
    held = result.promised or result.content
    if candidate.content is not None and candidate.content != held:
        raise RejectedError(
            RejectReason.DIGEST_MISMATCH,
            f"{candidate.name}: its commit marker promises {candidate.content}, the files hold {held}",
            hint="Copy the files again and run `mergenode commit` on the finished directory.",
        )
    if result.norm == 0.0 and result.protection.get("share"):
        raise RejectedError(
            RejectReason.EMPTY_DELTA,
            f"{candidate.name}: every weight that it changes is vetoed by what is protected; nothing is left to fold",
            hint="It would harm a declared capability; see `protect` in the settings of the node.",
        )
    if result.norm == 0.0:
        raise RejectedError(
            RejectReason.EMPTY_DELTA,
            f"{candidate.name}: every merged weight equals the base; there is nothing to fold",
            hint="Push the fine-tuned weights; an untouched copy of the base would only dilute the others.",
        )
    _judge_norms(candidate, result, max_relative_norm)


def _judge_norms(candidate: Candidate, result: FoldResult, limit: float) -> None:
    """Relative norms: of the matrices, which tell models apart, and of everything, which a wild vector shows in."""
    whole = result.groups[0] if result.groups else None
    offered = hypot(whole.delta_norm, result.protection.get("norm", 0.0)) if whole is not None else 0.0
    overall = offered / whole.base_norm if whole is not None and whole.base_norm > 0 else 0.0
    relative, weight = result.relative_norm, candidate.weight
    largest, most = max(relative, overall), max(limit, DIVERGED)
    finite = isfinite(result.norm) and isfinite(relative) and isfinite(overall)
    heavy = f" at its weight of {weight:g}" if weight > 1 and finite else ""
    if not finite or largest > most:
        raise RejectedError(
            RejectReason.NORM_TOO_LARGE,
            f"{candidate.name}: its update{heavy} is {largest:.3g} times as large as the base itself",
            hint=f"Give it a smaller weight: without one it is {largest / weight:.3g} times as large."
            if heavy and largest / weight <= most
            else "The training run diverged or the file is damaged: push an earlier checkpoint of the run.",
        )
    if relative > limit:
        raise RejectedError(
            RejectReason.OTHER_BASE,
            f"{candidate.name}: its matrices{heavy} differ from the base by {relative:.2f} of the base's own norm "
            f"(limit {limit:g}); fine-tunes of this base stay far below, other models come out above 1",
            hint=f"Give it a smaller weight: without one they differ by {relative / weight:.2f}."
            if heavy and relative / weight <= limit
            else "Check that it was fine-tuned from this base; if it was, raise validation.max_relative_norm.",
        )
