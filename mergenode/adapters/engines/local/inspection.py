"""One streamed pass over base, contribution and running merge that measures what gates ask for, and nothing else.

The running merge is read as the version that was published last: it is there for every method, costs no decomposition,
and is what readers have. So cosines and signs are those of the published update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from mergenode.adapters.checkpoints.base import BaseModel, describe_base
from mergenode.adapters.checkpoints.contribution import open_contribution
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.checkpoints.weights import DEFAULT_LIMITS, open_weights
from mergenode.adapters.engines.local.content import weights_content
from mergenode.adapters.engines.local.incoming import Source
from mergenode.adapters.engines.local.inspection_pass import Inspection
from mergenode.adapters.engines.local.own_files import reading_own
from mergenode.adapters.engines.local.pipeline import Step, run_ordered
from mergenode.errors import TransientError, TransientReason
from mergenode.gates.evidence import Evidence, Need
from mergenode.maths.threads import one_thread
from mergenode.ports.engine import Stopped
from mergenode.types import Digest

MEASURED = frozenset({Need.VALUES, Need.NORMS, Need.MERGE, Need.SIGNS, Need.SPECTRA, Need.FROZEN})
"""What an inspection can measure; other needs are met by the fold, the ledger, the plug-in."""

PASS_NEEDS = frozenset({Need.SIGNS, Need.SPECTRA, Need.FROZEN})
"""What no fold tells: an inspection is worth its reading only when one of these is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What an inspection may use. ``memory``: bytes in flight; a matrix whose delta takes more has no spectrum.

    ``stop`` is asked between steps; when it answers True the pass ends with ``Stopped``.
    """

    memory: int = 2 << 30
    threads: int = 1
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A candidate and how it is opened. ``root``: as in ``open_contribution``; ``limits``: of all that is opened.

    ``content``: digest of the weights that were folded; other ones are no evidence about that fold.
    """

    path: Path
    root: Path | None = None
    limits: Limits = DEFAULT_LIMITS
    content: Digest | None = None


def inspect(
    base_path: Path, candidate: Path | Subject, *, needs: Iterable[Need] = MEASURED, frozen: Iterable[str] = (),
    merge_path: Path | None = None, base: BaseModel | None = None, effort: Effort | None = None,
) -> Evidence:  # fmt: skip
    """Measure a contribution that is not folded, or not yet.

    Reads base, candidate and (for ``MERGE`` and ``SIGNS``) merge once each, slice by slice; whole matrices only for
    ``SPECTRA``. Norms are always told, by group, and so is the digest of the candidate's weights. History, share kept,
    scores, slopes and signatures are for others to add.

    Args:
        needs: which evidence is wanted; what is not in ``MEASURED`` is ignored.
        frozen: patterns of tensor names that should be the base's, for ``FROZEN``.
        merge_path: a published version of the running merge; None: there is nothing to compare with.
        base: description of the base when it is at hand; else the base is read once more.

    Raises:
        RejectedError: the candidate can never be folded as it is. Values that are not finite are evidence, no error.
        TransientError: as ``open_contribution``; CHANGED_WHILE_READING, also when it is not ``Subject.content``.
        Stopped: as ``effort`` says.
    """
    subject = candidate if isinstance(candidate, Subject) else Subject(path=candidate)
    limits, effort = subject.limits, effort or Effort()
    base = base or describe_base(base_path, limits=limits)
    with ExitStack() as stack:
        with reading_own("base"):
            base_files = stack.enter_context(open_weights(base_path, root=trusted_root(base_path), limits=limits))
        opened = open_contribution(subject.path, base, root=subject.root, limits=limits)
        source = Source(stack.enter_context(opened), 1.0, subject.path.name)
        merge = None
        if merge_path is not None and not {Need.MERGE, Need.SIGNS}.isdisjoint(needs):
            version = open_contribution(merge_path, base, root=trusted_root(merge_path), limits=limits)
            merge = Source(stack.enter_context(version), 1.0, merge_path.name)
        work = Inspection(
            base=base, base_files=base_files, source=source, merge=merge, needs=frozenset(needs),
            frozen=tuple(frozen), memory=effort.memory,
        )  # fmt: skip
        with one_thread():
            run_ordered(_until(effort.stop, work.steps()), threads=effort.threads, budget_bytes=effort.memory)
        content = weights_content(source)
        opened.assert_unchanged()
    _refuse_another(subject, content)
    return replace(work.evidence(), label=subject.path.name, content=content)


def _refuse_another(subject: Subject, content: Digest) -> None:
    if subject.content is not None and content != subject.content:
        raise TransientError(
            TransientReason.CHANGED_WHILE_READING,
            f"{subject.path}: holds other weights than those that were folded",
            hint="It is folded again when it has settled; push checkpoints under a new name instead.",
        )


def _until(stop: Callable[[], bool], steps: Iterable[Step]) -> Iterator[Step]:
    for step in steps:
        if stop():
            raise Stopped("an inspection was put down")
        yield step
