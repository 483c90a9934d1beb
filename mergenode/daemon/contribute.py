"""One checkpoint, one straight line: fold -> judge -> commit -> publish. What gates say is in ``judging``.

Every step ends in a durable fact or leaves nothing behind; killed anywhere, the next start goes on from the facts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mergenode.daemon.elsewhere import NOWHERE, Elsewhere
from mergenode.daemon.judging import Judgement, Judging
from mergenode.daemon.manifest import model_card, version_json, version_manifest
from mergenode.daemon.places import publishing
from mergenode.daemon.recent import Listed, RecentMembers
from mergenode.daemon.refusing import judge, judge_promise
from mergenode.daemon.weighing import weigh_in
from mergenode.errors import FatalError, RejectedError, RejectReason, TransientError
from mergenode.ledger.chain import lineage
from mergenode.ledger.records import (
    ContributionFact,
    Deferred,
    Duplicate,
    Fact,
    Folded,
    Initialised,
    Pruned,
    Published,
    Rejected,
)
from mergenode.ports.clock import Clock
from mergenode.ports.engine import Earlier, Engine, Evaluator
from mergenode.ports.gatekeeper import OPEN, Gatekeeper
from mergenode.ports.generations import Generations
from mergenode.ports.ledger_store import LedgerStore
from mergenode.ports.observer import Observer
from mergenode.ports.publisher import Publisher
from mergenode.ports.restater import Restater
from mergenode.ports.weighing import Weighed, Weigher
from mergenode.tracing.context import at
from mergenode.tracing.ids import contribution_trace
from mergenode.tracing.spans import SILENT, Tracer
from mergenode.types import Candidate, Digest, FoldResult, Head


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The ports that one contribution passes, and the limits it is judged by. ``retractable``: of the method.

    ``recent``: what manifests list. ``elsewhere``: what other nodes count and rule. ``weigher``: finds weights; None:
    they are as given. ``scorer``: of published versions, see ``scoring``.
    """

    engine: Engine
    ledger: LedgerStore
    generations: Generations
    publisher: Publisher
    restater: Restater
    observer: Observer
    clock: Clock
    retractable: bool = False
    max_relative_norm: float = 0.95
    publish_dtype: str | None = None
    keep: int = 5
    recent: Listed = field(default_factory=RecentMembers)
    elsewhere: Elsewhere = NOWHERE
    weigher: Weigher | None = None
    gatekeeper: Gatekeeper = OPEN
    tracer: Tracer = SILENT
    scorer: Evaluator | None = None

    @property
    def judging(self) -> Judging:
        return Judging(gatekeeper=self.gatekeeper, ledger=self.ledger, clock=self.clock, observer=self.observer)


def contribute(line: Line, candidate: Candidate) -> ContributionFact:
    """Fold one candidate and commit it, or record why not. Returns the fact that was recorded.

    Durability: the returned fact is in the ledger. Raises TransientError when it should be tried again.
    """
    trace = contribution_trace(*candidate.key)
    with line.tracer.span("fold", trace, registry=candidate.registry, contribution=candidate.name) as about:
        fact = _contributed(line, candidate)
        about["outcome"] = fact.kind
        if isinstance(fact, Folded):
            about |= {"content": fact.content, "generation": fact.generation, "bytes_read": fact.bytes_read}
        return fact


def _contributed(line: Line, candidate: Candidate) -> ContributionFact:
    head = line.ledger.head()
    started = line.clock.monotonic()
    # An earlier attempt may have installed its generation and then failed to append the fact. Left there it would be
    # in the way of this one; taken back, its shards need not be computed again.
    line.generations.recover(head.generation)
    try:
        judge_promise(candidate, origin_of(line).base)
        judge_retraction(line, candidate, candidate.content)
        if (instead := _kept_out(line, candidate, candidate.content)) is not None:
            return _record(line, instead, *_readmitted_with(line, candidate, instead))
        result = line.engine.fold(candidate, head, line.observer)
        judged = _judged(line, candidate, head, result)
    except RejectedError as error:
        return _record(line, rejected(line, candidate, error))
    if isinstance(judged, Accepted):
        return _commit(line, head, judged, line.clock.monotonic() - started)
    return _record(line, judged, *_readmitted_with(line, candidate, judged))


@dataclass(frozen=True, slots=True)
class Accepted:
    """What is to be committed: the candidate with the weight it was folded with, and what was found on the way."""

    candidate: Candidate
    judgement: Judgement
    weighed: Weighed | None = None


def _judged(line: Line, candidate: Candidate, head: Head, result: FoldResult) -> Accepted | ContributionFact:
    """What is to be committed, or the fact to record instead. Raises RejectedError."""
    same = line.ledger.by_content(result.content)
    if same is not None:
        return _duplicate(line, candidate, result, same.name)
    judge_retraction(line, candidate, result.content)
    judge(candidate, result, line.max_relative_norm)
    instead = _kept_out(line, candidate, result.content)
    if instead is not None:
        return instead
    weighed = None
    if line.weigher is not None:
        earlier = _earlier(line, head.version + 1, None)
        candidate, result, weighed = weigh_in(
            line.weigher, line.engine, candidate, head, result, earlier, line.observer
        )
    # After weighing: gates judge what would enter, and a smaller weight may be what they ask for.
    with line.tracer.span("judge", contribution_trace(*candidate.key)):
        judgement = line.judging.judge(candidate, head, result)
    return judgement.kept_out or Accepted(candidate, judgement, weighed)


def judge_retraction(line: Line, candidate: Candidate, content: Digest | None) -> None:
    """Refuse what was taken out of the merge, unless the operator asks for it now. Raises RejectedError.

    Where several nodes have one merge, what they ruled counts more than what this one once did.
    """
    if content is None or candidate.forced:
        return
    ruling = line.elsewhere.ruling(content)
    where = ""
    if ruling is not None and ruling.out:
        where, why = f"by node {ruling.node} on {ruling.said}", ruling.why
    elif ruling is None and (retracted := line.ledger.retraction(content)) is not None:
        where, why = f"as {retracted.name!r} on {retracted.time}", retracted.why
    if where:
        raise RejectedError(
            RejectReason.RETRACTED,
            f"{candidate.name}: its content was retracted {where}" + (f" ({why})" if why else ""),
            hint="Nothing is to be done, unless that was a mistake: `mergenode ingest PATH` takes it in again.",
        )


def folded_fact(
    candidate: Candidate, result: FoldResult, head: Head, origin: Initialised, *, time: str = "", seconds: float = 0.0,
    weighed: Weighed | None = None,
) -> Folded:  # fmt: skip
    """What a fold onto ``head`` is recorded as; its lineage follows from that of ``head``."""
    return Folded(
        time=time,
        registry=candidate.registry,
        name=candidate.name,
        revision=candidate.revision,
        generation=head.generation + 1,
        location=candidate.location,
        content=result.content,
        contribution_kind=result.kind.value,
        weight=candidate.weight,
        count=head.count + 1,
        totals=result.totals,
        statistics=result.statistics,
        lineage=lineage(
            head.lineage,
            base=origin.base,
            method=origin.method,
            options=origin.options,
            content=result.content,
            weight=candidate.weight,
            profile=dict(candidate.profile),
        ),
        norm=result.norm,
        relative_norm=result.relative_norm,
        groups=tuple(asdict(group) for group in result.groups),
        seconds=seconds,
        bytes_read=result.bytes_read,
        bytes_written=result.bytes_written,
        warnings=result.warnings,
        profile=dict(candidate.profile),
        weighing=weighed.record if weighed is not None else {},
        protection=result.protection,
    )


def _commit(line: Line, head: Head, accepted: Accepted, seconds: float) -> Folded:
    candidate, judgement = accepted.candidate, accepted.judgement
    now = line.clock.now()
    fact = folded_fact(
        candidate, judgement.result, head, origin_of(line), time=now, seconds=seconds, weighed=accepted.weighed
    )
    fact = replace(fact, findings=judgement.findings)
    # STRICTLY in this order: the files first, then the fact that names them. A kill between the two finds a
    # generation that the ledger does not know; recovery hands it back to the folding folder and the fold is repeated
    # from finished shards. The other way round the ledger would name files that do not exist.
    with line.tracer.span("commit", contribution_trace(*candidate.key), generation=fact.generation):
        line.generations.install(fact.generation)
        facts = (*_readmitted(line, candidate, fact.content), fact)
        line.ledger.append(*facts)
    for each in facts:
        line.observer.fact(each)
    line.elsewhere.recorded(facts)
    tidy(line, lambda: line.generations.retire(fact.generation))
    return fact


def _readmitted(line: Line, candidate: Candidate, content: Digest) -> tuple[Fact, ...]:
    return line.elsewhere.readmission(content, line.clock.now()) if candidate.forced else ()


def _kept_out(line: Line, candidate: Candidate, content: Digest | None) -> ContributionFact | None:
    """The fact to record instead of a fold, for what is known of this content; None: go on."""
    return line.judging.known(candidate, content) or _deferred(line, candidate, content)


def _readmitted_with(line: Line, candidate: Candidate, fact: ContributionFact) -> tuple[Fact, ...]:
    return _readmitted(line, candidate, fact.content) if isinstance(fact, Deferred) else ()


def _deferred(line: Line, candidate: Candidate, content: Digest | None) -> Deferred | None:
    """The fact that this content waits, because another node counts it; None when nobody does."""
    keeper = None if content is None else line.elsewhere.keeper(content)
    if content is None or keeper is None:
        return None
    return Deferred(
        time=line.clock.now(),
        registry=candidate.registry,
        name=candidate.name,
        revision=candidate.revision,
        content=content,
        keeper=keeper,
        location=candidate.location,
        weight=candidate.weight,
        profile=dict(candidate.profile),
    )


def publish(line: Line, generation: int, version: int) -> Published:
    """Make the committed merge visible as ``version``.

    Durability: on return the version, ``latest`` and the fact are on disk. Idempotence: a version that was renamed
    into place before a kill is recognised by its manifest and only completed.
    """
    head = line.ledger.head()
    if head.generation != generation:
        raise FatalError(f"asked to publish generation {generation}, but generation {head.generation} is committed")
    place = publishing(line.ledger)
    links = [at(linked) for linked in place.links]
    with line.tracer.span("publish", place.trace_id, links=links, version=version, generation=generation):
        return _published(line, head, version)


def _published(line: Line, head: Head, version: int) -> Published:
    started = line.clock.monotonic()
    make_visible(line, head, version)
    line.publisher.point_latest(version)
    fact = Published(
        time=line.clock.now(),
        version=version,
        generation=head.generation,
        digest=line.publisher.digest(version),
        path=line.publisher.path(version),
        seconds=line.clock.monotonic() - started,
        scale=(line.publisher.visible(version) or {}).get("scale", {}),
    )
    line.ledger.append(fact)
    line.observer.fact(fact)
    tidy(line, lambda: prune(line))
    return fact


def make_visible(line: Line, head: Head, version: int, recorded: Mapping[str, Any] | None = None) -> None:
    """Put the committed merge into place as ``version``, unless it lies there already. ``latest`` stays where it is.

    ``recorded``: the scale entry it was published with, when it is made again.
    """
    in_place = line.publisher.visible(version)
    if in_place is not None and in_place.get("lineage") == head.lineage:
        return
    staging = line.publisher.stage(version)
    exported = line.engine.export(head, staging, line.observer, _earlier(line, version, recorded))
    manifest = version_manifest(
        origin=origin_of(line),
        head=head,
        version=version,
        dtype=line.publish_dtype,
        scale=exported.scale.entry(),
        tensors=exported.tensors,
        contributions=line.recent.of(line.ledger, head),
        parts=line.recent.parts(line.ledger),
    )
    line.publisher.publish(version, manifest, version_json(manifest), model_card(manifest))


def _earlier(line: Line, version: int, recorded: Mapping[str, Any] | None) -> Earlier:
    """What the versions before this one can give to its export."""
    before = [fact for fact in line.ledger.versions() if fact.version < version]
    last = before[-1].scale.get("used") if before else None
    return Earlier(
        previous=line.publisher.path(version - 1) if line.publisher.holds(version - 1) else None,
        recorded=recorded or None,
        last_scale=float(last) if last is not None else None,
    )


def prune(line: Line) -> None:
    """Retention: remove the oldest versions beyond ``keep``, then record which ones are gone.

    Recorded is what the ledger still names and the disk no longer has, whoever removed it; never the newest.
    """
    try:
        line.publisher.prune(line.keep)
    finally:
        record_gone(line)


def record_gone(line: Line) -> tuple[int, ...]:
    """Record ``pruned`` for the versions before the newest whose files are gone; returns their numbers."""
    older = line.ledger.versions()[:-1]
    gone = tuple(fact.version for fact in older if not line.publisher.holds(fact.version))
    if gone:
        fact = Pruned(time=line.clock.now(), versions=gone)
        line.ledger.append(fact)
        line.observer.fact(fact)
    return gone


def _record(line: Line, fact: ContributionFact, *more: Fact) -> ContributionFact:
    # Nobody would take these shards up again: removed before the fact, no kill leaves them behind.
    tidy(line, line.generations.discard)
    facts = (*more, fact)
    line.ledger.append(*facts)
    for each in facts:
        line.observer.fact(each)
    line.elsewhere.recorded(facts)
    return fact


def tidy(line: Line, remove: Callable[[], object]) -> None:
    """Remove what no fact needs any more. A failure costs space until the next chance, never the outcome."""
    try:
        remove()
    except TransientError as error:
        line.observer.message("warning", f"removed at the next chance: {error.message}", hint=error.hint)


def rejected(line: Line, candidate: Candidate, error: RejectedError) -> Rejected:
    """The fact that says why a candidate cannot be accepted."""
    return Rejected(
        time=line.clock.now(),
        registry=candidate.registry,
        name=candidate.name,
        revision=candidate.revision,
        reason=error.reason.value,
        message=error.message,
        hint=error.hint,
    )


def _duplicate(line: Line, candidate: Candidate, result: FoldResult, same_as: str) -> Duplicate:
    return Duplicate(
        time=line.clock.now(),
        registry=candidate.registry,
        name=candidate.name,
        revision=candidate.revision,
        content=result.content,
        same_as=same_as,
    )


def origin_of(line: Line) -> Initialised:
    origin = line.ledger.initialised()
    if origin is None:
        raise FatalError("the ledger has no first fact", hint="Start the node with `mergenode run` first.")
    return origin
