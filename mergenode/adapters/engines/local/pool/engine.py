"""The pool as the selector sees it: candidates are indexed once, estimated by sketches, scored exactly, combined."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from blake3 import blake3

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.contribution import Contribution, open_contribution
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.checkpoints.weights import WeightFiles
from mergenode.adapters.durable import disk_errors, remove_tree
from mergenode.adapters.engines.local import journal
from mergenode.adapters.engines.local.allocator import tune_allocator
from mergenode.adapters.engines.local.own_files import reading_own
from mergenode.adapters.engines.local.pool.estimating import estimated, sketch_of
from mergenode.adapters.engines.local.pool.gradient import opened_gradient
from mergenode.adapters.engines.local.pool.reading import FirstReading
from mergenode.adapters.engines.local.pool.scoring import ScoringPass
from mergenode.adapters.engines.local.pool.sketching import SketchScheme, packed
from mergenode.adapters.engines.local.pool.task_vector import TaskVector
from mergenode.adapters.engines.local.pool.trial import OpenVectors, TrialModel
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.store.pool_files import PoolFiles
from mergenode.errors import MergenodeError, RejectedError, RejectReason, TransientError, TransientReason
from mergenode.maths.threads import one_thread
from mergenode.ports.activity import ActivityKind
from mergenode.ports.engine import Stopped
from mergenode.ports.observer import Observer
from mergenode.ports.pool import WHOLE, Estimate, Indexed, Scored, Unreadable, Weights
from mergenode.ports.told import Told
from mergenode.types import Candidate, Digest, DType, Kind

BATCH = 32
"""Candidates that are open at once while they are scored. More would save little of reading base and gradient."""

_DESCRIPTORS = 256


class _Opened(NamedTuple):
    """An opened candidate. ``stamp``: see ``LocalPool._stamp``."""

    candidate: Candidate
    contribution: Contribution
    stamp: str

    @property
    def vector(self) -> TaskVector:
        return TaskVector(self.contribution, self.candidate.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPool:
    """Implements ports.pool.PoolEngine, with an index in ``folder`` (``state/pool``).

    ``open_base``: the base's weight files, which the caller of it closes (``LocalEngine.open_base``). ``stop`` is asked
    between steps; when it answers True, ``Stopped`` is raised. ``trial_dtype``: see ``TrialModel.dtype``.
    """

    base: BaseModel
    open_base: Callable[[], WeightFiles]
    folder: Path
    scheme: SketchScheme = field(default_factory=SketchScheme)
    limits: Limits = field(default_factory=Limits)
    trial_dtype: DType | None = None
    stop: Callable[[], bool] = lambda: False
    observer: Observer = field(default_factory=lambda: FanOut([]))
    """Told how far readings are."""

    @property
    def files(self) -> PoolFiles:
        """The index on disk."""
        return PoolFiles(self.folder, f"{self.scheme.name} base={self.base.digest}", self.scheme.buckets)

    # ---- reading once

    def index(self, candidate: Candidate) -> Indexed:
        with self._opened(candidate) as opened:
            indexed = self._recalled(opened)
            if indexed is None or self.files.sketch(indexed.content) is None:
                indexed = self._read(opened)
            return indexed

    def _recalled(self, opened: _Opened) -> Indexed | None:
        """What is known of a candidate whose files are still as they were read; its sketch may be lost."""
        place = self.files.place(opened.candidate.location)
        return _indexed(opened.candidate, place) if place is not None and place.get("stamp") == opened.stamp else None

    def _read(self, opened: _Opened) -> Indexed:
        tune_allocator()
        with self._base() as base_files, one_thread():
            reading = FirstReading(opened.vector, self.base, base_files, self.scheme, self._between)
            touched = sum(spec.nbytes for spec in reading.touched)
            with self._told(ActivityKind.INDEX, opened.candidate.name, total_bytes=touched) as told:
                reading.advanced = partial(told.add, 0)
                found = reading.read()
        opened.contribution.assert_unchanged()
        if self._stamp(opened.contribution) != opened.stamp:
            raise _changed(opened.candidate)
        step, data = packed(found.sketch)
        candidate = opened.candidate
        facts: dict[str, Any] = {
            "content": found.content,
            "kind": opened.contribution.kind.value,
            "norms": {group: norm.hex() for group, norm in found.norms.items()},
            "groups": list(found.norms),
            "stamp": opened.stamp,
            "candidate": [candidate.registry, candidate.name, candidate.revision],
            "forced": candidate.forced,
        }
        self.files.save_sketch(found.content, {"step": step.hex(), "norm": facts["norms"][WHOLE]}, data)
        self.files.save_place(candidate.location, facts)
        return _indexed(candidate, facts)

    @contextmanager
    def _opened(self, candidate: Candidate) -> Iterator[_Opened]:
        opened = self._open(candidate)
        with opened.contribution:
            yield opened

    def _open(self, candidate: Candidate) -> _Opened:
        path = Path(candidate.location)
        root = trusted_root(path) if candidate.forced else None
        contribution = open_contribution(path, self.base, root=root, limits=self.limits)
        contribution.weights.expect_passes()
        try:
            return _Opened(candidate, contribution, self._stamp(contribution))
        except TransientError:
            contribution.close()
            raise

    # ---- estimates

    def estimates(self, gradient: Path) -> Mapping[Digest, Estimate]:
        return {content: found[WHOLE] for content, found in self._estimated(gradient, groups=False).items()}

    def group_estimates(self, gradient: Path) -> Mapping[Digest, Mapping[str, Estimate]]:
        return self._estimated(gradient, groups=True)

    def _estimated(self, gradient: Path, *, groups: bool) -> dict[Digest, Mapping[str, Estimate]]:
        with opened_gradient(gradient, self.base, self.limits) as opened, one_thread():
            sketch = sketch_of(opened, self.base, self.scheme, self._between, groups=groups)
            with closing(self.files.sketches()) as stored:
                return dict(estimated(sketch, stored, self.scheme))

    # ---- exact scores

    def scores(self, gradient: Path, candidates: Sequence[Candidate]) -> Scored:
        tune_allocator()
        scores: dict[Digest, Mapping[str, float]] = {}
        unreadable: list[Unreadable] = []
        of_pool, total = f"{len(candidates)} contributions", len(candidates)
        with (
            opened_gradient(gradient, self.base, self.limits) as opened,
            self._base() as base_files,
            self._told(ActivityKind.SCORING, of_pool, total_steps=total, step="contributions") as told,
        ):
            work = ScoringPass(base=self.base, base_files=base_files, gradient=opened, between=self._between)
            waiting = list(reversed(candidates))
            while waiting:
                with ExitStack() as stack:
                    batch = self._batch(waiting, scores, unreadable, stack)
                    running = [work.start(item.vector, indexed.norm) for item, indexed in batch.values()]
                    work.run(running)
                    for (content, (checkpoint, _)), item in zip(batch.items(), running, strict=True):
                        failure = item.failure or self._change(checkpoint)
                        if failure is None:
                            scores[content] = item.sums.totals()
                        else:
                            unreadable.append(_unreadable(checkpoint.candidate, failure))
                told.at(total - len(waiting), total)
        return Scored(scores, tuple(unreadable))

    def _batch(
        self, waiting: list[Candidate], scored: Collection[Digest], unreadable: list[Unreadable], stack: ExitStack
    ) -> dict[Digest, tuple[_Opened, Indexed]]:
        """Open the next candidates, each content once; what is new is indexed. Takes them out of ``waiting``."""
        batch: dict[Digest, tuple[_Opened, Indexed]] = {}
        descriptors = 0
        while waiting and len(batch) < BATCH and descriptors < _DESCRIPTORS:
            candidate = waiting.pop()
            try:
                opened = self._open(candidate)
                stack.callback(opened.contribution.close)
                indexed = self._recalled(opened) or self._read(opened)
            except (RejectedError, TransientError) as error:
                if isinstance(error, TransientError) and error.of_node:
                    raise
                unreadable.append(_unreadable(candidate, error))
                continue
            if indexed.content not in scored and indexed.content not in batch:
                batch[indexed.content] = (opened, indexed)
                descriptors += len(opened.contribution.weights.files)
        return batch

    # ---- combinations

    def trial(self, weights: Weights, directory: Path) -> None:
        tune_allocator()
        there = (
            place for place in self.files.places() if Path(place["location"]).exists()
        )  # of copies, one may be gone
        places = {Digest(place["content"]): place for place in there}
        with disk_errors(directory), self._base() as base_files, one_thread():
            remove_tree(directory)
            directory.mkdir(parents=True)
            with OpenVectors(lambda content: self._indexed_vector(content, places)) as vectors:
                TrialModel(
                    base=self.base,
                    base_files=base_files,
                    weights=weights,
                    vectors=vectors,
                    dtype=self.trial_dtype,
                    between=self._between,
                ).write(directory)

    def _indexed_vector(self, content: Digest, places: Mapping[Digest, Mapping[str, Any]]) -> TaskVector:
        place = places.get(content)
        if place is None:
            raise RejectedError(
                RejectReason.GONE,
                f"{content}: nothing of this content was indexed",
                hint="Index the pool again; the weights speak of a checkpoint that is no longer in it.",
            )
        registry, name, revision = place["candidate"]
        opened = self._open(Candidate(registry, name, revision, place["location"], forced=place["forced"]))
        if opened.stamp != place["stamp"]:
            opened.contribution.close()
            raise _changed(opened.candidate)
        return opened.vector

    # ---- the rest

    def _stamp(self, contribution: Contribution) -> str:
        """Changes whenever the files do, the settings of an adapter, or the base. Raises TransientError: VANISHED."""
        found = [journal.stamps_of(contribution.files), contribution.canonical_config.hex(), self.base.digest]
        return blake3(journal.canonical(found)).hexdigest()

    def _change(self, opened: _Opened) -> MergenodeError | None:
        """What to say when files were written to since they were opened."""
        try:
            opened.contribution.assert_unchanged()
            return None if self._stamp(opened.contribution) == opened.stamp else _changed(opened.candidate)
        except TransientError as error:
            return error

    def keep(self, contents: Collection[Digest]) -> None:
        self.files.keep(contents)

    @contextmanager
    def _base(self) -> Iterator[WeightFiles]:
        with self.open_base() as files:
            files.expect_passes()
            yield files
            with reading_own("base"):
                files.assert_unchanged()

    def _told(self, kind: ActivityKind, subject: str, **measure: Any) -> Told:
        return Told(self.observer, kind, subject, **measure)

    def _between(self) -> None:
        if self.stop():
            raise Stopped("work on the pool put down")


def _changed(candidate: Candidate) -> TransientError:
    return TransientError(
        TransientReason.CHANGED_WHILE_READING,
        f"{candidate.name}: its files were written to since they were read",
        hint="It is read again when it has settled; push checkpoints under a new name instead.",
    )


def _unreadable(candidate: Candidate, error: MergenodeError) -> Unreadable:
    assert isinstance(error, RejectedError | TransientError)
    transient = isinstance(error, TransientError)
    return Unreadable(candidate, error.reason.value, error.message, error.hint, transient)


def _indexed(candidate: Candidate, facts: Mapping[str, Any]) -> Indexed:
    norms = {group: float.fromhex(facts["norms"][group]) for group in facts["groups"]}
    whole = norms.pop(WHOLE)
    return Indexed(candidate, Digest(facts["content"]), Kind(facts["kind"]), whole, norms)
