"""``mergenode merge``, composed: one merge of given models into a new directory, atomically."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mergenode.adapters.checkpoints.base import BaseModel, describe_base
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.durable import disk_errors, remove_tree, rename_directory
from mergenode.adapters.engines.local.allocator import tune_allocator
from mergenode.adapters.engines.local.engine import LocalEngine, Resources
from mergenode.adapters.engines.local.one_shot import MergePlan, OneShot
from mergenode.adapters.publishers.folder import complete_version
from mergenode.bootstrap.output_path import free_output
from mergenode.daemon.contribute import folded_fact
from mergenode.daemon.manifest import model_card, version_json, version_manifest
from mergenode.daemon.refusing import judge
from mergenode.errors import FatalError, RejectedError, RejectReason, UsageError
from mergenode.ledger.records import Folded, Initialised
from mergenode.methods import build_method
from mergenode.methods.rescale import asked_scale
from mergenode.methods.scaling import EVALUATE
from mergenode.ports.observer import Observer, Progress
from mergenode.types import Candidate, Digest, DType, FoldResult, Head


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeRequest:
    """What the command line asks for. ``models``: path and weight, in the order in which they are folded."""

    base: Path
    output: Path
    models: Sequence[tuple[Path, float]]
    method: str
    options: Mapping[str, object]
    dtype: DType | None
    resources: Resources
    max_relative_norm: float


def merge_once(
    request: MergeRequest, observer: Observer, approve: Callable[[MergePlan], None] = lambda plan: None
) -> dict[str, Any]:
    """Merge and make the result visible as ``request.output``. Returns its manifest.

    ``approve`` sees the plan when the base and every model's header were read and nothing was written; it may raise
    to call the merge off.
    Durability: the output exists whole and synced, or not at all.

    Raises:
        RejectedError: a model cannot be merged; the message names its path.
        UsageError, FatalError: wrong output, options, or not enough disk or memory.
    """
    output = free_output(request.output)
    method = build_method(request.method, request.options)
    if asked_scale(method) == EVALUATE:
        raise UsageError(
            f"{request.method}: scale {EVALUATE} needs the scores of a node's task plug-in",
            hint="Give a number, own or norm_match; a node with a section task searches (docs/methods.md).",
        )
    staging = output.parent / f".{output.name}.merging"
    scratch = output.parent / f".{output.name}.statistics"
    tune_allocator()
    base = _base(request.base, observer)
    engine = LocalEngine(
        base_path=request.base,
        base=base,
        method=method,
        folding=scratch / "folding",
        generations=scratch / "statistics",
        resources=replace(request.resources, limit_name="--memory-limit", exclude_name="--set exclude=[...]"),
        publish_dtype=request.dtype,
    )

    def accept(path: str, weight: float, result: FoldResult) -> None:
        judge(Candidate("merge", path, "", path, weight=weight), result, request.max_relative_norm)

    work = OneShot(engine=engine, models=request.models, staging=staging, scratch=scratch, accept=accept)
    approve(work.plan())
    try:
        with disk_errors(output.parent):
            output.parent.mkdir(parents=True, exist_ok=True)
            remove_tree(staging)
            remove_tree(scratch)
            staging.mkdir()
        work.run(observer)
        manifest = _manifest(request, base, dict(method.options), work)
        with disk_errors(output.parent):
            complete_version(staging, request.base, manifest, model_card(manifest), version_json(manifest))
            # A moment before the output appears: from then on nothing of this merge lies beside it.
            remove_tree(scratch)
            rename_directory(staging, output)
        return manifest
    finally:
        remove_tree(scratch)
        remove_tree(staging)


def _base(path: Path, observer: Observer) -> BaseModel:
    def progress(done: int, total: int) -> None:
        observer.progress(Progress("hash", "base", 0, 0, done, total))

    try:
        return describe_base(path, limits=Limits(), progress=progress)
    except RejectedError as error:
        raise FatalError(f"base {path}: {error.message}", hint=error.hint) from error


def _manifest(request: MergeRequest, base: BaseModel, options: dict[str, Any], work: OneShot) -> dict[str, Any]:
    origin = Initialised(time="", ledger_id="", base=base.digest, method=request.method, options=options)
    head = Head(totals=work.totals)
    facts: list[Folded] = []
    seen: dict[Digest, Path] = {}
    for (path, weight), result in zip(request.models, work.results, strict=True):
        candidate = Candidate("merge", path.name, "", str(path), weight=weight)
        if result.content in seen:
            raise RejectedError(
                RejectReason.DIGEST_MISMATCH,
                f"{path}: holds the same weights as {seen[result.content]}",
                hint="Name every model once; give it a weight if it should count more.",
            )
        seen[result.content] = path
        facts.append(folded_fact(candidate, result, head, origin))
        head = replace(
            head, generation=head.generation + 1, count=head.count + 1, totals=result.totals, lineage=facts[-1].lineage
        )
    return version_manifest(
        origin=origin,
        head=head,
        version=1,
        dtype=request.dtype.value if request.dtype else None,
        scale=work.scale.entry() if work.scale is not None else {},
        tensors=work.tensors,
        contributions=facts,
    )
