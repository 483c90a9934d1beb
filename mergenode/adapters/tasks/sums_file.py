"""The sums of a refinement on disk, with the contributions that are in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.checkpoints.weights import open_weights
from mergenode.adapters.engines.local.tensors import read_slice
from mergenode.adapters.tasks.side_car_file import publish, write_tensors
from mergenode.errors import FatalError, MergenodeError
from mergenode.maths.probe_sums import ProbeSums
from mergenode.types import Digest

KIND = "probe-sums"
_HINT = "Name a file that mergenode refine wrote, or leave --sums out."


@dataclass(frozen=True, slots=True)
class Summed:
    """One contribution in the sums. ``name``: what the plug-in was asked a head for."""

    name: str
    weight: float


def read_probe(path: Path) -> ProbeSums:
    """What one contribution adds. Raises FatalError: the file holds something else."""
    with open_weights(path, root=trusted_root(path)) as files:
        found = {}
        for name in ProbeSums._fields:
            spec = files.specs.get(name)
            if spec is None or len(spec.shape) != 2 or not spec.dtype.is_float:
                raise FatalError(f"{path}: holds no matrix {name!r}", hint=_HINT)
            found[name] = read_slice(files, spec, 0, spec.numel)[0].view(spec.shape).float()
    sums = ProbeSums(**found)
    width = sums.targets.shape[1]
    if sums.metric.shape != (width, width) or not all(bool(each.isfinite().all()) for each in sums):
        raise FatalError(f"{path}: its matrices do not belong together, or are not finite", hint=_HINT)
    return sums


def read_sums(path: Path) -> tuple[ProbeSums, dict[Digest, Summed]]:
    """The sums and their contributions, by content. Raises FatalError: the file is none of ``write_sums``."""
    try:
        sums = read_probe(path)
        with open_weights(path, root=trusted_root(path)) as files:
            metadata = files.metadata(files.files[0])
        told = json.loads(metadata["contributions"])
        members = {Digest(content): Summed(str(name), float(weight)) for content, (name, weight) in told.items()}
        if metadata["kind"] != KIND or not all(isfinite(member.weight) for member in members.values()):
            raise ValueError("no sums")
    except MergenodeError as error:
        raise FatalError(f"{path}: {error.message}", hint=error.hint or _HINT) from error
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise FatalError(f"{path}: says nothing of its contributions", hint=_HINT) from error
    return sums, members


def write_sums(path: Path, sums: ProbeSums, members: Mapping[Digest, Summed]) -> None:
    """Durability: the file has the old content or the new, which is synced on return."""
    told = {content: [member.name, member.weight] for content, member in members.items()}
    metadata = {"kind": KIND, "contributions": json.dumps(told, sort_keys=True)}
    publish(path, lambda private: write_tensors(private, sums._asdict(), metadata))
