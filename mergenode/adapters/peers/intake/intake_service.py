"""The service ``Intake``: teams push contributions. Nothing of it blocks the event loop, nothing grows with a pusher.

Work on single blocks goes to a few threads, work on whole models (checking a manifest, hashing everything at the end)
to two others, one piece of it per pusher. A stream that stands still holds one block at most, for half a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NoReturn, Protocol, TypeVar

import grpc
from grpc import aio

from mergenode.adapters.peers.intake.intake_refusals import RefusedError
from mergenode.adapters.peers.intake.intake_work import IntakeRules, IntakeWork
from mergenode.adapters.peers.intake.outcomes import Fate, Outcome
from mergenode.adapters.peers.intake.push_records import PushRecord
from mergenode.adapters.peers.intake.put_stream import PutStream, within
from mergenode.adapters.peers.intake.upload import Upload
from mergenode.adapters.peers.intake.upload_blocks import UploadBlocks
from mergenode.adapters.peers.intake.upload_terms import invalid, terms_of
from mergenode.adapters.peers.intake.uploads import Uploads
from mergenode.adapters.peers.port.refusals import refusal_metadata
from mergenode.errors import RejectedError, TransientError, TransientReason
from mergenode.ports.activity import ActivityKind
from mergenode.ports.told import Told
from mergenode.tracing.context import at, caller, stay
from mergenode.tracing.spans import SILENT, Tracer
from mergenode.wire.encoding import Encoded
from mergenode.wire.journal import packed_bits
from mergenode.wire.transfer import Verdict
from mergenode.wire.v1.intake_pb2 import (
    BeginReply,
    BeginRequest,
    CommitReply,
    CommitRequest,
    MissingReply,
    PutReply,
)
from mergenode.wire.v1.objects_pb2 import ManifestPart, Refusal

SERVICE = "mergenode.v1.Intake"
_PART_BYTES = 1 << 20
_MESSAGE_CHARACTERS = 2000
_DISK_WAIT_MS = 60_000
_OUTCOMES = {
    Fate.FOLDED: CommitReply.OUTCOME_ACCEPTED,
    Fate.DUPLICATE: CommitReply.OUTCOME_DUPLICATE,
    Fate.REJECTED: CommitReply.OUTCOME_REJECTED,
    Fate.RETRACTED: CommitReply.OUTCOME_REJECTED,
    Fate.QUARANTINED: CommitReply.OUTCOME_QUARANTINED,
    Fate.NOT_SELECTED: CommitReply.OUTCOME_NOT_SELECTED,
}

Context = aio.ServicerContext[Any, Any]
Request = TypeVar("Request")
Reply = TypeVar("Reply")


class Pusher(Protocol):
    """Who calls, as certificate or token says. ``quota``: bytes a day of its own, None for those of the settings."""

    @property
    def name(self) -> str: ...

    @property
    def quota(self) -> int | None: ...

    def may_push(self, lineage: str) -> bool: ...


class IntakeService:
    """Handlers of ``mergenode.v1.Intake``. ``caller_of`` says who is behind a call; roles were checked before."""

    def __init__(
        self, uploads: Uploads, rules: IntakeRules, caller_of: Callable[[Context], Pusher],
        tell: Callable[[str], None] = lambda text: None, tracer: Tracer = SILENT,
    ) -> None:  # fmt: skip
        """``tell``: one line for the log about every push that ended and about trouble on this side."""
        self._tracer = tracer
        self._uploads = uploads
        self._rules = rules
        self._caller_of = caller_of
        self._tell = tell
        self._work = IntakeWork(rules)
        self._putting: dict[bytes, asyncio.Task[Any]] = {}
        self._displaced: set[asyncio.Task[Any]] = set()

    def register(self, server: aio.Server) -> None:
        """Add the service to a server. ``Put`` gets its frames as they are: no protobuf on the bulk path."""
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_unary_rpc_method_handler
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Begin": unary(self._answering(self._begin), BeginRequest.FromString, BeginReply.SerializeToString),
            "Missing": stream(self._answering(self._missing), ManifestPart.FromString, MissingReply.SerializeToString),
            "Put": stream(self._answering(self._put), None, PutReply.SerializeToString),
            "Commit": unary(self._answering(self._commit), CommitRequest.FromString, CommitReply.SerializeToString),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        server.add_registered_method_handlers(SERVICE, handlers)

    def drain(self) -> None:
        """From any thread: refuse new calls, end long work at its next block. What arrived stays."""
        self._work.ending.set()

    def close(self) -> None:
        """After the server stopped: wait for the threads. Idempotent."""
        self._work.close()

    def _answering(
        self, handler: Callable[[Request, Pusher], Awaitable[Reply]]
    ) -> Callable[[Request, Context], Awaitable[Reply]]:
        """A handler whose refusals become statuses with their details."""

        async def answer(request: Request, context: Context) -> Reply:
            try:
                self._work.check_ending()
                return await handler(request, self._caller_of(context))
            except RefusedError as refused:
                await _abort(context, refused)
            except RejectedError as error:
                message = f"{error.reason}: {error.message}"
                await _abort(context, RefusedError(grpc.StatusCode.INVALID_ARGUMENT, message, hint=error.hint))
            except TransientError as error:
                self._tell(f"a call of a pusher failed: {error.message}")
                await _abort(context, _trouble(error))

        return answer

    async def _begin(self, request: BeginRequest, pusher: Pusher) -> BeginReply:
        if not pusher.may_push(request.lineage):
            raise RefusedError(
                grpc.StatusCode.PERMISSION_DENIED,
                f"{pusher.name} may not push to the lineage {request.lineage[:80]!r}",
                code=Refusal.CODE_NOT_ALLOWED,
                hint=f"Ask for a token with the scope push:{self._rules.lineage}.",
            )
        terms, files = terms_of(pusher.name, self._rules.lineage, request)
        stay(at(terms.trace_id))
        upload_id, wait = await self._work.light(lambda: self._uploads.begin(terms, files, pusher.quota))
        expires = int(self._uploads.side.limits.expire_seconds * 1000)
        return BeginReply(upload_id=upload_id, retry_after_ms=int(wait * 1000), expires_ms=expires)

    async def _missing(self, parts: AsyncIterator[ManifestPart], pusher: Pusher) -> MissingReply:
        with self._work.stream(pusher.name):
            part = await within(self._rules.times.idle, parts)
            if part is None:
                raise invalid("there is no first part of the manifest")
            found = await self._found(pusher, part.upload_id)
            if isinstance(found, PushRecord):
                return MissingReply(blocks=found.blocks, wanted=packed_bits(0, found.blocks))
            with self._span("missing", found):
                if not found.prepared:
                    await self._spool(found, part, parts)
                check = self._work.check_ending
                blocks, wanted = await self._work.heavy(pusher.name, lambda: self._uploads.prepare(found, check))
            return MissingReply(blocks=blocks, wanted=packed_bits(wanted, blocks))

    async def _spool(self, upload: Upload, part: ManifestPart | None, parts: AsyncIterator[ManifestPart]) -> None:
        """Take the manifest to disk; parts have to follow each other and stay within what was declared."""
        expected, at = upload.terms.manifest_bytes, 0
        while part is not None:
            data = part.data
            if part.root != upload.terms.root or part.total_bytes != expected or part.offset != at:
                raise invalid("a part of another manifest, or out of order")
            if not data or len(data) > _PART_BYTES or at + len(data) > expected:
                raise invalid(f"a part of {len(data)} bytes at {at}; the manifest has {expected}, parts up to 1 MiB")
            await self._work.light(partial(upload.spool, at, data))
            at += len(data)
            part = await within(self._rules.times.idle, parts) if at < expected else None
        if at < expected:
            raise invalid(f"the manifest ended after {at} of {expected} bytes")

    async def _put(self, frames: AsyncIterator[bytes], pusher: Pusher) -> PutReply:
        with self._work.stream(pusher.name):
            stream = PutStream(frames, self._rules.times)
            found = await self._found(pusher, await stream.upload_id())
            if isinstance(found, PushRecord):
                return PutReply(blocks=found.blocks, wanted=packed_bits(0, found.blocks))
            task = await self._displace(found.terms.id)
            try:
                await self._work.light(found.enter)
                try:
                    with self._span("put", found):
                        return await self._take_blocks(found, stream)
                finally:
                    await self._work.light(found.leave)
            except asyncio.CancelledError:
                if task not in self._displaced:
                    raise
                task.uncancel()
                message = "another stream for the same upload took over"
                raise RefusedError(grpc.StatusCode.ABORTED, message) from None
            finally:
                self._displaced.discard(task)
                if self._putting.get(found.terms.id) is task:
                    del self._putting[found.terms.id]

    async def _displace(self, upload_id: bytes) -> asyncio.Task[Any]:
        """The newest stream of an upload is the one that lives: the older one's line may be dead without a sign."""
        task, before = asyncio.current_task(), self._putting.get(upload_id)
        assert task is not None
        self._putting[upload_id] = task
        if before is not None and not before.done():
            self._displaced.add(before)
            before.cancel()
        return task

    async def _take_blocks(self, upload: Upload, stream: PutStream) -> PutReply:
        blocks = await self._work.light(upload.blocks)
        there, total = await self._work.light(blocks.written_bytes), blocks.manifest.total_bytes
        subject, owner = f"{upload.terms.name} from {upload.terms.owner}", upload.terms.owner
        with Told(self._uploads.side.observer, ActivityKind.TRANSFER, subject, total_bytes=total, peer=owner) as told:
            told.add(0, there, free=True)
            return await self._take_each(upload, blocks, stream, told)

    async def _take_each(self, upload: Upload, blocks: UploadBlocks, stream: PutStream, told: Told) -> PutReply:
        def take(index: int, encoded: Encoded) -> Verdict:
            with upload.used():
                return upload.blocks().put(index, encoded, upload.terms.owner)

        while True:
            self._work.check_ending()
            block = await stream.block(lambda index: blocks.place(index).length)
            if block is None:
                break
            index, encoded = block
            verdict = await self._work.light(partial(take, index, encoded))
            if verdict is Verdict.VERIFIED:
                told.add(0, blocks.place(index).length)
                upload.touched = self._uploads.side.clock.unix()
            elif verdict is Verdict.BANNED:
                raise invalid(
                    f"block {index} came twice with other bytes than its hash says",
                    "The file changed while it was pushed, or the line damages data; push again.",
                )
        await self._work.light(blocks.sync)
        count = blocks.manifest.block_count
        return PutReply(blocks=count, wanted=packed_bits(blocks.wanted, count))

    async def _commit(self, request: CommitRequest, pusher: Pusher) -> CommitReply:
        upload_id = request.upload_id
        if not upload_id:
            upload_id = await self._work.light(partial(self._uploads.id_of_key, pusher.name, request.idempotency_key))
        found = await self._found(pusher, upload_id)
        if isinstance(found, Upload):
            check = self._work.check_ending
            with self._span("commit", found):
                commit = partial(self._uploads.commit, pusher.name, upload_id, check)
                record = await self._work.heavy(pusher.name, commit)
            kept = f"as {record.entry}" if record.entry else "its content was here before"
            self._tell(f"{pusher.name} pushed {record.name}, {kept}")
        else:
            record = found
        return _reply(await self._work.light(lambda: self._uploads.answer(record)))

    async def _found(self, pusher: Pusher, upload_id: bytes) -> Upload | PushRecord:
        found = await self._work.light(lambda: self._uploads.of(pusher.name, upload_id))
        trace_id = found.terms.trace_id if isinstance(found, Upload) else found.trace_id
        stay(at(trace_id) if trace_id else None)
        return found

    def _span(self, what: str, upload: Upload) -> AbstractContextManager[object]:
        """Below what the pusher says that it does, if that is about this push; what else it says is linked."""
        calling, trace_id = caller(), upload.terms.trace_id
        own = calling is not None and calling.trace_id == trace_id
        links = (calling,) if calling is not None and not own else ()
        return self._tracer.span(f"intake {what}", trace_id, parent=calling if own else None, links=links)


def _reply(outcome: Outcome | None) -> CommitReply:
    if outcome is None:
        return CommitReply(outcome=CommitReply.OUTCOME_ACCEPTED)
    folded = outcome.fate is Fate.FOLDED or (outcome.fate is Fate.DUPLICATE and outcome.in_merge)
    reply = CommitReply(
        outcome=_OUTCOMES[outcome.fate], reason=outcome.reason, message=outcome.message, hint=outcome.hint,
        folded=folded,
    )  # fmt: skip
    if outcome.share_kept is not None:
        reply.share_kept = outcome.share_kept
    if outcome.score is not None:
        reply.score = outcome.score
    return reply


def _trouble(error: TransientError) -> RefusedError:
    """What a pusher is told of trouble with files: no more than it needs; paths of this node are not its business."""
    full = error.reason is TransientReason.DISK_FULL
    return RefusedError(
        grpc.StatusCode.RESOURCE_EXHAUSTED if full else grpc.StatusCode.UNAVAILABLE,
        "the disk of the node is full" if full else f"the node cannot work on its files now ({error.reason})",
        code=Refusal.CODE_BUSY,
        hint="Tell its operator; what arrived is kept.",
        retry_after_ms=_DISK_WAIT_MS,
    )


async def _abort(context: Context, refused: RefusedError) -> NoReturn:
    message = refused.message[:_MESSAGE_CHARACTERS]
    await context.abort(refused.status, message, trailing_metadata=(refusal_metadata(refused.status, refused.refusal),))
    raise AssertionError("abort raises")
