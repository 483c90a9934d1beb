"""``mergenode refine``, composed: a merge trained to agree with its contributions, on inputs that nobody owns."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.durable import disk_errors, remove_tree, rename_directory
from mergenode.adapters.publishers.folder import complete_version
from mergenode.adapters.tasks.refine_worker import RefineWorker
from mergenode.adapters.tasks.sums_file import Summed, read_probe, read_sums, write_sums
from mergenode.bootstrap.full_weights import full_weights
from mergenode.bootstrap.output_path import free_output
from mergenode.errors import UsageError
from mergenode.maths.probe_sums import ProbeSums, added
from mergenode.ports.task import TaskOptions
from mergenode.types import Digest

SCHEMA = "mergenode.refinement/1"

KindProgress = Callable[[str, int, int], None]
"""Told (kind of work, batches done, batches in all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineRequest:
    """``models``: contributions and their weights. ``without``: contributions that leave the file ``sums``."""

    base: Path
    merged: Path
    output: Path
    task: TaskOptions
    models: Sequence[tuple[Path, float]] = ()
    without: Sequence[Path] = ()
    sums: Path | None = None
    epochs: int = 1
    rate: float = 1e-4
    seed: int = 0


@dataclass(frozen=True, slots=True)
class RefineResult:
    """``contributions``: everything in the sums, by content. ``skipped``: models without a head. See ``Refined``."""

    contributions: Mapping[Digest, Summed]
    entered: tuple[str, ...]
    skipped: tuple[str, ...]
    steps: int
    before: float
    after: float


def refine_once(request: RefineRequest, progress: KindProgress) -> RefineResult:
    """Bring the sums up to date, train, and make the result visible as ``request.output``.

    A model whose content is in the sums is not read again but for its digest, so sums follow a stream of contributions
    one by one. Memory: the plug-in's process, and the sums twice.
    Durability: the output exists whole and synced, or not at all; the file of the sums is updated after every model.

    Raises:
        UsageError: nothing to refine towards, a taken output, or ``without`` names what is not in the sums.
        RejectedError, TransientError, FatalError: as ``RefineWorker``, ``open_weights``, ``read_sums``.
    """
    output = free_output(request.output)
    if request.sums is not None and request.sums.suffix != ".safetensors":
        raise UsageError(f"--sums {request.sums}: is no safetensors file", hint="Give it a name in .safetensors.")
    with (
        RefineWorker(request.task) as worker,
        tempfile.TemporaryDirectory(prefix="mergenode-") as scratch,
    ):
        gathering = _Gathering(request, worker, Path(scratch), progress)
        gathering.gather()
        if gathering.sums is None or not gathering.members:
            raise UsageError(
                "there is nothing to refine towards: no model has a head",
                hint="Name contributions for which head() of the plug-in returns a tensor, or --sums.",
            )
        file = Path(scratch) / "sums.safetensors"
        write_sums(file, gathering.sums, gathering.members)
        trained = _train(request, worker, file, output, gathering.members, progress)
    return RefineResult(
        gathering.members, tuple(gathering.entered), tuple(gathering.skipped),
        int(trained["steps"]), trained["before"], trained["after"],
    )  # fmt: skip


class _Gathering:
    """The sums while contributions enter and leave."""

    def __init__(self, request: RefineRequest, worker: RefineWorker, scratch: Path, progress: KindProgress) -> None:
        self._request, self._worker, self._scratch, self._progress = request, worker, scratch, progress
        self.sums: ProbeSums | None = None
        self.members: dict[Digest, Summed] = {}
        self.entered: list[str] = []
        self.skipped: list[str] = []

    def gather(self) -> None:
        if self._request.sums is not None and self._request.sums.exists():
            self.sums, self.members = read_sums(self._request.sums)
        for path in self._request.without:
            self._leave(path)
        for path, weight in self._request.models:
            self._enter(path, weight)

    def _enter(self, path: Path, weight: float) -> None:
        content = content_digest(path, root=trusted_root(path))
        if content in self.members:
            return
        probe = self._probe(path, path.name, weight)
        if probe is None:
            self.skipped.append(path.name)
            return
        self.sums = probe if self.sums is None else _added(self.sums, probe, 1.0)
        self.members[content] = Summed(path.name, weight)
        self.entered.append(path.name)
        self._keep()

    def _leave(self, path: Path) -> None:
        content = content_digest(path, root=trusted_root(path))
        member = self.members.get(content)
        if member is None or self.sums is None:
            raise UsageError(f"--without {path}: is not in the sums", hint="Name contributions that entered them.")
        probe = self._probe(path, member.name, member.weight)
        if probe is None:
            raise UsageError(
                f"--without {path}: head() of the plug-in knows no head for {member.name!r} any more",
                hint="What it added is computed again with that head: give it back, or begin new sums.",
            )
        self.sums = _added(self.sums, probe, -1.0)
        del self.members[content]
        self._keep()

    def _keep(self) -> None:
        """After every model: asking thousands of probes again because a later model failed would be a waste."""
        if self._request.sums is not None and self.sums is not None:
            write_sums(self._request.sums, self.sums, self.members)

    def _probe(self, path: Path, name: str, weight: float) -> ProbeSums | None:
        file = self._scratch / "probe.safetensors"
        with full_weights(path, self._request.base, self._request.task.memory_limit) as loaded:
            counts = self._worker.probe(
                loaded, name, file, weight=weight,
                progress=lambda done, total: self._progress(f"probes of {name}", done, total),
            )  # fmt: skip
        return None if counts is None else read_probe(file)


def _added(sums: ProbeSums, probe: ProbeSums, sign: float) -> ProbeSums:
    try:
        return added(sums, probe, sign)
    except ValueError as error:
        raise UsageError(
            f"the sums are over other probes: {error}",
            hint="probes() has to yield the same inputs every time; begin new sums with another --sums.",
        ) from error


def _train(
    request: RefineRequest, worker: RefineWorker, sums: Path, output: Path, members: Mapping[Digest, Summed],
    progress: KindProgress,
) -> Mapping[str, float]:  # fmt: skip
    staging = output.parent / f".{output.name}.refining"
    try:
        with disk_errors(output.parent):
            output.parent.mkdir(parents=True, exist_ok=True)
            remove_tree(staging)
            staging.mkdir()
        trained = worker.refine(
            request.merged, request.base, sums, staging / "model.safetensors",
            epochs=request.epochs, rate=request.rate, seed=request.seed,
            progress=lambda done, total: progress("refining", done, total),
        )  # fmt: skip
        manifest = _manifest(request, staging, members, trained)
        content = json.dumps(manifest, indent=2, sort_keys=True).encode() + b"\n"
        with disk_errors(output.parent):
            complete_version(staging, request.merged, manifest, _card(manifest), content)
            rename_directory(staging, output)
        return trained
    finally:
        remove_tree(staging)


def _manifest(
    request: RefineRequest, staging: Path, members: Mapping[Digest, Summed], trained: Mapping[str, float]
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "merged": content_digest(request.merged, root=trusted_root(request.merged)),
        "base": content_digest(request.base, root=trusted_root(request.base)),
        "content": content_digest(staging),
        "training": {"epochs": request.epochs, "rate": request.rate, "seed": request.seed, **trained},
        "contributions": {content: asdict(member) for content, member in sorted(members.items())},
    }


def _card(manifest: Mapping[str, Any]) -> str:
    count = len(manifest["contributions"])
    return (
        "---\nlibrary_name: transformers\ntags:\n- merge\n- mergenode\n---\n\n# Refined merge\n\n"
        f"A merge (`{manifest['merged']}`) trained by mergenode to agree with {count} of its contributions on made-up "
        "inputs. `mergenode.json` names them.\n"
    )
