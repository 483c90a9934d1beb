"""The pushing side: Begin, Missing, Put, Commit, again and again until the node has everything.

Nothing is remembered on this side: what the node lacks it says, so a push that was cut or killed goes on where it was.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import grpc
from blake3 import blake3

from mergenode.adapters.checkpoints.layout import ADAPTER_CONFIG
from mergenode.adapters.peers.pushing.local_model import LocalModel, Progress
from mergenode.adapters.peers.pushing.push_errors import Failure, judge
from mergenode.errors import FatalError, MergenodeError
from mergenode.ports.clock import Clock
from mergenode.tracing.context import TRACEPARENT, at, here
from mergenode.tracing.ids import push_trace
from mergenode.tracing.spans import SILENT, Tracer
from mergenode.types import Digest
from mergenode.wire.chunks import chunks_of, frame_chunk
from mergenode.wire.encoding import Encoding, encode_block
from mergenode.wire.journal import indexes_in, unpacked_bits
from mergenode.wire.v1.intake_pb2 import BeginReply, BeginRequest, CommitReply, CommitRequest, MissingReply, PutReply
from mergenode.wire.v1.objects_pb2 import ManifestPart

_SERVICE = "/mergenode.v1.Intake/"
_PART_BYTES = 1 << 20
_CONTROL_SECONDS = 30.0
_MODEL_SECONDS = 600.0
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0
_LONGEST_WAIT_UNREACHED = 4.0
"""Whoever mistyped an address is told soon."""
_MOST_DOUBLINGS = 6
_BLOCKS_PER_STREAM = 128
_TRIED_BLOCKS = 16
"""After so many blocks of which none became smaller, no more are tried."""

_OUTCOMES = {
    CommitReply.OUTCOME_ACCEPTED: "accepted",
    CommitReply.OUTCOME_QUARANTINED: "quarantined",
    CommitReply.OUTCOME_DUPLICATE: "duplicate",
    CommitReply.OUTCOME_REJECTED: "rejected",
    CommitReply.OUTCOME_NOT_SELECTED: "not_selected",
}
LEFT_OUT = ("rejected", "quarantined", "not_selected")
"""Outcomes of what does not enter the merge, unless something else changes."""

Reply = TypeVar("Reply")


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOrder:
    """What is asked of the node. ``base``: content digest of what the model was tuned from, empty for "not said"."""

    name: str
    lineage: str
    weight: float = 1.0
    profile: Mapping[str, float] = field(default_factory=dict)
    base: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PushReport:
    """How it went. ``outcome``: accepted | duplicate | rejected | quarantined | not_selected. Bytes are of weights;
    ``bytes_sent`` as they travelled. ``score``: of one that was not selected, None where it has none."""

    outcome: str
    folded: bool
    share_kept: float | None
    score: float | None
    reason: str
    message: str
    hint: str
    trace_id: str
    upload: str
    root: str
    bytes_total: int
    bytes_sent: int
    blocks: int
    blocks_sent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PushTimes:
    """Seconds. ``patience``: of failures in a row before giving up; ``reach``: the same while the node never answered;
    ``idle``: of a stream in which nothing moves; ``poll``: between two questions what became of it."""

    patience: float = 900.0
    reach: float = 15.0
    idle: float = 60.0
    poll: float = 1.0


@dataclass(slots=True)
class _Progress:
    """Of this process: what was sent, and since when nothing was."""

    since: float
    reached: bool = False
    failures: int = 0
    blocks_sent: int = 0
    bytes_sent: int = 0
    moved: int = 0
    tried: int = 0
    paid: int = 0


class Pushing:
    """Pushes one model to one node. ``open_channel`` is called for every attempt: new certificates are picked up.

    Args:
        pause: waits so many seconds; ends by raising when the user gives up.
        tell: one line about what went wrong and is tried again.
        watch: bytes that the node has, of all.
    """

    def __init__(
        self, model: LocalModel, order: PushOrder, open_channel: Callable[[], grpc.Channel], *, address: str,
        clock: Clock, pause: Callable[[float], object], metadata: Sequence[tuple[str, str]] = (),
        compress: bool = True, times: PushTimes | None = None, jitter: Callable[[], float] = random.random,
        tell: Callable[[str], None] = lambda text: None, watch: Progress = lambda done, total: None,
        tracer: Tracer = SILENT,
    ) -> None:  # fmt: skip
        self._model, self._order, self._open = model, order, open_channel
        self._address, self._clock, self._pause = address, clock, pause
        self._metadata, self._tracer = tuple(metadata), tracer
        self._accept = frozenset({Encoding.SPLIT_ZSTD}) if compress else frozenset[Encoding]()
        self._times = times or PushTimes()
        self._jitter, self._tell, self._watch = jitter, tell, watch
        self._seen = _Progress(clock.monotonic())
        self._upload = b""
        self._fault: MergenodeError | None = None

    def push(self) -> PushReport:
        """Until the node has everything and said so. Idempotence: what it has is not sent again.

        Raises FatalError (the node refuses, or cannot be reached any more) and TransientError (the model changed).
        """
        around = here()  # of a node that forwards what it knows under another id
        links = () if around is None else (around,)
        with self._tracer.span("push", self.trace_id, links=links, contribution=self._order.name) as about:
            report = self._persistently(self._attempt)
            about |= {"outcome": report.outcome, "bytes_sent": report.bytes_sent, "bytes_total": report.bytes_total}
            return report

    @property
    def trace_id(self) -> str:
        """The id under which every node speaks of what is pushed."""
        return push_trace(self._order.name, self._model.manifest.root.hex())

    def wait(self, report: PushReport) -> PushReport:
        """Ask until the contribution is in the merge, refused, or left out by a selection.

        Raises FatalError when the node is gone for long.
        """
        while not (report.folded or report.outcome in LEFT_OUT):
            self._pause(self._times.poll)
            report = self._persistently(self._asked)
        return report

    def _persistently(self, attempt: Callable[[grpc.Channel], PushReport]) -> PushReport:
        """Again after every failure that may pass, with full jitter; progress forgives."""
        self._seen.since, self._seen.failures = self._clock.monotonic(), 0
        while True:
            channel = self._open()
            try:
                return attempt(channel)
            except grpc.RpcError as error:
                failure = judge(error, self._address)
                self._seen.reached = self._seen.reached or failure.answered
            except _NotNow as busy:
                failure = busy.failure
            finally:
                channel.close()
            self._pause(self._delay(failure))

    def _delay(self, failure: Failure) -> float:
        seen, times = self._seen, self._times
        waited = self._clock.monotonic() - seen.since
        if waited > (times.patience if seen.reached else times.reach):
            what = "no progress" if seen.reached else "it was never reached"
            raise FatalError(
                f"{failure.message} ({what} for {waited:.0f} s)",
                hint=failure.hint or "Check the address and that the node runs; push again to go on where it stopped.",
            )
        most = _LONGEST_WAIT if seen.reached else _LONGEST_WAIT_UNREACHED
        longest: float = min(most, _FIRST_WAIT * 2.0 ** min(seen.failures, _MOST_DOUBLINGS))
        seen.failures += 1
        delay = max(failure.retry_after, longest * self._jitter())
        self._tell(f"{failure.message}; trying again in {delay:.1f} s")
        return delay

    def _attempt(self, channel: grpc.Channel) -> PushReport:
        manifest = self._model.manifest
        self._upload = self._begin(channel)
        wanted = self._missing(channel)
        while wanted:
            self._model.weights.assert_unchanged()
            left = self._put(channel, wanted)
            if left == wanted:
                raise _NotNow(Failure(f"{self._address}: the node took none of the blocks"))
            self._seen.since, self._seen.failures = self._clock.monotonic(), 0
            wanted = left
        self._watch(manifest.total_bytes, manifest.total_bytes)
        return self._asked(channel)

    def _begin(self, channel: grpc.Channel) -> bytes:
        order, model = self._order, self._model
        request = BeginRequest(
            lineage=order.lineage, name=order.name, root=model.manifest.root,
            manifest_bytes=len(model.manifest.packed), weight_bytes=model.manifest.total_bytes,
            idempotency_key=idempotency_key(model, order), weight=order.weight, files=dict(model.files),
            base=order.base or "", profile=dict(order.profile),
        )  # fmt: skip
        call = channel.unary_unary(_SERVICE + "Begin", BeginRequest.SerializeToString, BeginReply.FromString)
        reply: BeginReply = self._called(call, request, _CONTROL_SECONDS)
        self._seen.reached = True
        if not reply.upload_id:
            busy = f"{self._address}: as many uploads are under way as there may be"
            raise _NotNow(Failure(busy, retry_after=reply.retry_after_ms / 1000))
        return reply.upload_id

    def _missing(self, channel: grpc.Channel) -> int:
        call = channel.stream_unary(_SERVICE + "Missing", ManifestPart.SerializeToString, MissingReply.FromString)
        reply: MissingReply = self._called(call, self._parts(), _MODEL_SECONDS)
        return self._wanted(reply)

    def _parts(self) -> Iterator[ManifestPart]:
        packed, root = self._model.manifest.packed, self._model.manifest.root
        for offset in range(0, len(packed), _PART_BYTES):
            yield ManifestPart(
                root=root, offset=offset, total_bytes=len(packed), upload_id=b"" if offset else self._upload,
                data=packed[offset : offset + _PART_BYTES],
            )  # fmt: skip

    def _put(self, channel: grpc.Channel, wanted: int) -> int:
        """One stream of blocks; which are wanted then. The stream may take long, but not stand still."""
        call: Any = channel.stream_unary(_SERVICE + "Put", None, PutReply.FromString)
        there = self._model.manifest.total_bytes - self._lacking(wanted)
        frames = self._frames(list(islice(indexes_in(wanted), _BLOCKS_PER_STREAM)), there)
        done = call.future(frames, metadata=self._sent_along())
        while True:
            before = self._seen.moved
            try:
                reply: PutReply = done.result(timeout=self._times.idle)
                break
            except grpc.FutureTimeoutError as error:
                if self._seen.moved == before:
                    done.cancel()
                    stalled = f"{self._address}: nothing moved for {self._times.idle:.0f} s"
                    raise _NotNow(Failure(stalled)) from error
        if self._fault is not None:
            raise self._fault
        return self._wanted(reply)

    def _frames(self, indexes: Sequence[int], there: int) -> Iterator[bytes]:
        """Runs in a thread of the library, which would only log what it raises: so that is kept for ``_put``.

        ``there``: bytes that the node has before.
        """
        upload, total = self._upload, self._model.manifest.total_bytes
        for index in indexes:
            try:
                place = self._model.manifest.place(index)
                block = self._model.read(place)
            except MergenodeError as error:
                self._fault = error
                return
            seen = self._seen
            hopeless = seen.tried >= _TRIED_BLOCKS and not seen.paid
            encoded = encode_block(block, place.tensor.spec.dtype, accept=frozenset() if hopeless else self._accept)
            seen.tried += 1
            seen.paid += encoded.encoding is not Encoding.RAW
            for chunk in chunks_of(index, encoded, upload):
                yield frame_chunk(chunk)
                seen.moved += 1
                seen.bytes_sent += len(chunk.data)
            seen.blocks_sent += 1
            upload, there = b"", there + place.length
            self._watch(there, total)

    def _asked(self, channel: grpc.Channel) -> PushReport:
        self._model.weights.assert_unchanged()
        call = channel.unary_unary(_SERVICE + "Commit", CommitRequest.SerializeToString, CommitReply.FromString)
        key = idempotency_key(self._model, self._order)
        reply: CommitReply = self._called(
            call, CommitRequest(upload_id=self._upload, idempotency_key=key), _MODEL_SECONDS
        )
        manifest, seen = self._model.manifest, self._seen
        seen.reached = True
        return PushReport(
            outcome=_OUTCOMES.get(reply.outcome, "accepted"), folded=reply.folded,
            share_kept=reply.share_kept if reply.HasField("share_kept") else None,
            score=reply.score if reply.HasField("score") else None,
            reason=reply.reason, message=reply.message, hint=reply.hint, trace_id=self.trace_id,
            upload=self._upload.hex(), root=manifest.root.hex(),
            bytes_total=manifest.total_bytes, bytes_sent=seen.bytes_sent,
            blocks=manifest.block_count, blocks_sent=seen.blocks_sent,
        )  # fmt: skip

    def _wanted(self, reply: MissingReply | PutReply) -> int:
        blocks = self._model.manifest.block_count
        if reply.blocks != blocks:
            raise FatalError(f"{self._address}: the node speaks of {reply.blocks} blocks, the model has {blocks}")
        return unpacked_bits(reply.wanted, blocks, "wanted blocks")

    def _lacking(self, wanted: int) -> int:
        """Bytes of these blocks."""
        return sum(place.length for place in self._model.manifest.places() if wanted >> place.index & 1)

    def _sent_along(self) -> tuple[tuple[str, str], ...]:
        """The credentials, and what this call is about."""
        working, trace_id = here(), self.trace_id
        place = working if working is not None and working.trace_id == trace_id else at(trace_id)
        return (*self._metadata, (TRACEPARENT, place.traceparent))

    def _called(self, call: Any, request: object, seconds: float) -> Any:
        return call(request, timeout=seconds, metadata=self._sent_along())


class _NotNow(Exception):
    """The node answered, and asks to come again."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def idempotency_key(model: LocalModel, order: PushOrder) -> str:
    """Equal for the same content under the same name in the same lineage."""
    hasher = blake3(derive_key_context="mergenode push 1 key")
    config = model.files.get(ADAPTER_CONFIG, b"")
    for part in (model.manifest.root, config, order.name.encode(), order.lineage.encode()):
        hasher.update(len(part).to_bytes(8, "little") + part)
    return hasher.hexdigest()
