"""``config.json`` beside full weights: not needed to merge, but a broken one means a broken upload."""

from __future__ import annotations

from mergenode.adapters.checkpoints.json_scan import JsonFault, parse_small
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.regular_file import read_small
from mergenode.adapters.checkpoints.weights import WeightFiles
from mergenode.errors import RejectedError, RejectReason, TransientError, TransientReason

_NAME = "config.json"


def check_model_config(weights: WeightFiles, limits: Limits) -> None:
    """Refuse a ``config.json`` that is not a JSON object. It may be absent.

    Raises:
        RejectedError: CONFIG_INVALID.
        TransientError: it could not be read.
    """
    if not weights.path.is_dir():  # a bare file has no configuration of its own
        return
    shown = f"{weights.path.name}/{_NAME}"
    try:
        text = read_small(
            weights.path / _NAME,
            root=weights.root,
            shown=shown,
            max_bytes=limits.config_bytes,
            too_large=RejectReason.CONFIG_INVALID,
        )
        config = parse_small(text)
    except TransientError as error:
        if error.reason is TransientReason.VANISHED:
            return
        raise
    except JsonFault as error:
        raise RejectedError(
            RejectReason.CONFIG_INVALID, f"{shown}: {error}", hint="Transfer the file again."
        ) from error
    if not isinstance(config, dict):
        raise RejectedError(RejectReason.CONFIG_INVALID, f"{shown}: is not a JSON object")
