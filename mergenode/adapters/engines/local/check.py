"""Reading back what was written: statistics and versions against the digests that were recorded for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.adapters.engines.local import journal
from mergenode.adapters.engines.local.shards import statistic_key
from mergenode.adapters.engines.local.tensors import SLICE_ELEMENTS, read_slice
from mergenode.errors import MergenodeError

Advance = Callable[[str, int], None]
"""Told (what was read, bytes)."""


def check_generation(folder: Path, expected: str | None, advance: Advance) -> Iterator[str]:
    """Problems of a generation of statistics, one sentence each; none when every digest is right."""
    try:
        manifest = journal.load_manifest(folder)
        records = [journal.load_record(folder, index) for index in range(manifest["shards"])]
        tensors = {name: tensor["statistics"] for record in records for name, tensor in record["tensors"].items()}
        wanted = [_digests(record) for record in records]
    except MergenodeError as error:
        yield error.message
        return
    except (KeyError, TypeError, AttributeError):
        yield f"{folder}: manifest and records are not those of a finished fold"
        return
    identity = {"content": manifest["content"], "totals": manifest["totals"], "tensors": tensors}
    if journal.digest_of(identity) != manifest["statistics"] or manifest["statistics"] != expected:
        yield f"{folder.name}: the records do not add up to the digest in the ledger ({expected})"
    for index, record in enumerate(records):
        if record["bytes"] is not None:
            yield from check_file(folder / journal.shard_file(index), wanted[index], advance)


def _digests(record: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded digests by the names that the tensors have inside the shard."""
    return {
        statistic_key(statistic, name): digest
        for name, tensor in record["tensors"].items()
        for statistic, digest in tensor["statistics"].items()
    }


def check_version(folder: Path, recorded: str, advance: Advance) -> Iterator[str]:
    """Problems of a published version: its manifest against the ledger, its tensors against the manifest."""
    manifest_path = folder / "mergenode.json"
    try:
        content = manifest_path.read_bytes()
        manifest = json.loads(content)
    except (OSError, ValueError) as error:
        yield f"{manifest_path}: {error}"
        return
    if f"blake3:{blake3(content).hexdigest()}" != recorded:
        yield f"{manifest_path}: differs from what was published ({recorded})"
    tensors = manifest.get("tensors") if isinstance(manifest, dict) else None
    if not isinstance(tensors, dict):
        yield f"{manifest_path}: is not the manifest of a version"
        return
    yield from check_file(folder, tensors, advance)


def check_file(path: Path, wanted: Mapping[str, Any], advance: Advance) -> Iterator[str]:
    """Problems of a checkpoint or shard: tensors that are missing, surplus or not what their digest says."""
    try:
        files = open_weights(path)
    except MergenodeError as error:
        yield f"{path}: {error.message}"
        return
    with files:
        for name in sorted(wanted.keys() ^ files.specs.keys()):
            yield f"{path}: tensor {name!r} is {'missing' if name in wanted else 'not in the record'}"
        for name in files.specs:
            if name in wanted and tensor_digest(files, name, advance) != wanted[name]:
                yield f"{path}: tensor {name!r} in {files.file_of(name)} does not have the recorded digest"


def tensor_digest(files: WeightFiles, name: str, advance: Advance) -> str:
    """Digest of one tensor's bytes, read in slices."""
    spec, hasher = files.specs[name], blake3()
    for start in range(0, spec.numel, SLICE_ELEMENTS):
        _, buffer = read_slice(files, spec, start, min(start + SLICE_ELEMENTS, spec.numel))
        hasher.update(buffer)
        advance(name, buffer.nbytes)
    return f"blake3:{hasher.hexdigest()}"
