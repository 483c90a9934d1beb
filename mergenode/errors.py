"""Everything that can go wrong, in three families that say what happens next.

MergenodeError
├── TransientError   the world was not ready (disk full, share away, file still changing): retried with back-off
├── RejectedError    this input will never be accepted as it is: recorded with a reason, the node goes on
└── FatalError       the operator has to act: the process ends with exit code 1 (UsageError: 2) and the hint

Every message names what is wrong and where; every ``hint`` says what to do next.
"""

from __future__ import annotations

from enum import StrEnum


class RejectReason(StrEnum):
    """Why a contribution was refused. Closed: metrics, ledger and documentation use exactly these codes."""

    # the container
    HEADER_TOO_SHORT = "header_too_short"
    HEADER_TOO_LARGE = "header_too_large"
    HEADER_INVALID = "header_invalid"
    HEADER_DUPLICATE_KEY = "header_duplicate_key"
    TOO_MANY_TENSORS = "too_many_tensors"
    OFFSETS_INVALID = "offsets_invalid"
    OFFSETS_OVERLAP = "offsets_overlap"
    OFFSETS_GAP = "offsets_gap"
    SIZE_MISMATCH = "size_mismatch"
    FILE_TRUNCATED = "file_truncated"
    FILE_TRAILING_BYTES = "file_trailing_bytes"
    DTYPE_UNSUPPORTED = "dtype_unsupported"
    NAME_INVALID = "name_invalid"
    # the directory
    INDEX_INVALID = "index_invalid"
    SHARD_MISSING = "shard_missing"
    SHARD_NAME_UNSAFE = "shard_name_unsafe"
    TENSOR_DUPLICATED = "tensor_duplicated"
    INDEX_MISMATCH = "index_mismatch"
    PATH_UNSAFE = "path_unsafe"
    NOT_REGULAR_FILE = "not_regular_file"
    PICKLE_ONLY = "pickle_only"
    NO_WEIGHTS = "no_weights"
    AMBIGUOUS_WEIGHTS = "ambiguous_weights"
    CONFIG_INVALID = "config_invalid"
    NEEDS_SIDE_CAR = "needs_side_car"
    SIDE_CAR_INVALID = "side_car_invalid"
    TOO_LARGE = "too_large"
    # against the base
    OTHER_BASE = "other_base"
    TENSOR_MISSING = "tensor_missing"
    TENSOR_UNEXPECTED = "tensor_unexpected"
    SHAPE_MISMATCH = "shape_mismatch"
    DTYPE_MISMATCH = "dtype_mismatch"
    TIED_WEIGHTS_DIFFER = "tied_weights_differ"
    # adapters
    ADAPTER_CONFIG_INVALID = "adapter_config_invalid"
    ADAPTER_UNSUPPORTED = "adapter_unsupported"
    ADAPTER_INCOMPLETE = "adapter_incomplete"
    ADAPTER_TARGET_UNKNOWN = "adapter_target_unknown"
    # the values
    NOT_FINITE = "not_finite"
    NORM_TOO_LARGE = "norm_too_large"
    EMPTY_DELTA = "empty_delta"
    # what it does to the merge
    LOWERS_A_SCORE = "lowers_a_score"
    # the promise of the pusher
    MARKER_INVALID = "marker_invalid"
    DIGEST_MISMATCH = "digest_mismatch"
    # what was in the merge before
    RETRACTED = "retracted"
    GONE = "gone"
    # what was in quarantine before
    DROPPED = "dropped"
    # what was in the pool of a selector before
    EVICTED = "evicted"


class TransientReason(StrEnum):
    """Why something is tried again later. Closed, for metrics and back-off."""

    CHANGED_WHILE_READING = "changed_while_reading"
    DISK_FULL = "disk_full"
    READ_FAILED = "read_failed"
    WRITE_FAILED = "write_failed"
    REGISTRY_UNREACHABLE = "registry_unreachable"
    VANISHED = "vanished"
    TASK_FAILED = "task_failed"


class MergenodeError(Exception):
    """Root of the tree. ``hint`` is one sentence on what to do next, empty when the message says it all."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class TransientError(MergenodeError):
    """Worth trying again: nothing was changed, nothing was lost.

    ``of_node``: no other contribution would fare better, so the node waits as a whole.
    """

    def __init__(self, reason: TransientReason, message: str, *, hint: str = "", of_node: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.of_node = of_node


class RejectedError(MergenodeError):
    """The contribution is refused until its content changes. The message names the file and the tensor."""

    def __init__(self, reason: RejectReason, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class FatalError(MergenodeError):
    """The node cannot go on without the operator. Exit code 1."""


class UsageError(FatalError):
    """The command line or the settings are wrong. Exit code 2."""
