"""The description of the base, kept in the state directory while the base's files stay the same."""

from __future__ import annotations

import json
from pathlib import Path

from mergenode.adapters.checkpoints.base import BaseModel, describe_base
from mergenode.adapters.checkpoints.digest import fingerprint
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.durable import replace_file
from mergenode.ports.activity import ActivityKind
from mergenode.ports.observer import Observer
from mergenode.ports.told import Told


def cached_base(cache: Path) -> BaseModel | None:
    """The base as it was described last, whether its files changed or not; None where that cannot be read."""
    try:
        return BaseModel.from_json(json.loads(cache.read_bytes())["base"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def base_of(path: Path, *, cache: Path, limits: Limits, observer: Observer) -> BaseModel:
    """Describe the base, from ``cache`` when its files did not change since; otherwise read it and fill the cache.

    Durability: the cache is replaced atomically; losing it costs one pass over the base.

    Raises:
        RejectedError, TransientError: as ``describe_base``.
    """
    print_of_files = fingerprint(path, root=trusted_root(path), limits=limits)
    try:
        cached = json.loads(cache.read_bytes())
        if cached["fingerprint"] == print_of_files:
            return BaseModel.from_json(cached["base"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no cache, or one of another time: the base itself says everything
    with Told(observer, ActivityKind.HASH, path.name) as told:
        base = describe_base(path, limits=limits, progress=told.at_bytes)
    replace_file(cache, json.dumps({"fingerprint": print_of_files, "base": base.to_json()}).encode())
    return base
