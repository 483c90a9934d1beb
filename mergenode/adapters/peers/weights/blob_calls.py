"""The calls of ``Blobs`` as a receiver makes them: bounded in memory and time, ended from anywhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from mergenode.adapters.peers.port.refusals import refusal_of
from mergenode.adapters.peers.weights.idle_watch import IdleWatch
from mergenode.adapters.peers.weights.sources import Patience, Source
from mergenode.errors import RejectedError, RejectReason
from mergenode.tracing.context import call_metadata
from mergenode.wire.blocks import Root
from mergenode.wire.limits import WireLimits
from mergenode.wire.manifest import Manifest
from mergenode.wire.manifest_reading import parse_manifest
from mergenode.wire.packing import malformed
from mergenode.wire.v1 import blobs_pb2, objects_pb2

_NEVER_AGAIN = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.OUT_OF_RANGE,
)


class UnusableModel(RejectedError):
    """The manifest has the right hash and is none that anybody should use: the fault of who named its root."""


@dataclass(eq=False)
class CallFailed(Exception):
    """A call ended early. ``final``: the same question gets the same answer; ``retry_after``: seconds, if it was said;
    ``stalled``: nothing came any more; ``alternatives``: ids of nodes that may hold the root."""

    message: str
    code: str
    final: bool = False
    stalled: bool = False
    retry_after: float | None = None
    alternatives: tuple[bytes, ...] = ()


class BlobCalls:
    """One channel for each call, so that a broken connection leaves nothing behind. Safe from several threads."""

    def __init__(self, channel_of: Callable[[str], grpc.Channel], patience: Patience, limits: WireLimits) -> None:
        """``channel_of``: a new channel to an address; it is closed here."""
        self._channel_of, self._patience, self._limits = channel_of, patience, limits
        self._lock = threading.Lock()
        self._calls: set[Any] = set()
        self._ended = False

    def cancel_all(self) -> None:
        """End every call, now and later."""
        with self._lock:
            self._ended = True
            calls = list(self._calls)
        for call in calls:
            call.cancel()

    def manifest(self, source: Source, root: Root) -> Manifest:
        """The manifest behind ``root``. Memory: its size, which is bounded before it comes.

        Raises:
            CallFailed: the source did not answer.
            UnusableModel: it is malformed, or larger than the limits allow.
            RejectedError: what came is not that manifest.
        """
        data, total = bytearray(), 0
        request = blobs_pb2.GetManifestRequest(root=root)
        parse = objects_pb2.ManifestPart.FromString
        with self._call(source, "GetManifest", request, parse, self._patience.backstop_seconds) as (parts, watch):
            for part in parts:
                total = total or part.total_bytes
                self._check_part(part, root, len(data), total)
                data += part.data
                watch.block()
                if len(data) == total:
                    return self._parsed(bytes(data), root)
        raise malformed(f"manifest {root.hex()[:12]}", f"it ended after {len(data)} of {total} bytes")

    def fetch(
        self,
        source: Source,
        request: blobs_pb2.FetchRequest,
        nbytes: int,
        take: Callable[[bytes, IdleWatch], bool],
    ) -> None:
        """Give every frame of the answer to ``take`` until it says that this was all.

        ``nbytes``: of the blocks, for the last deadline. Errors of ``take`` pass through.

        Raises:
            CallFailed: it ended before.
        """
        deadline = self._patience.backstop(nbytes)
        with self._call(source, "Fetch", request, None, deadline) as (frames, watch):
            for frame in frames:
                if take(frame, watch):
                    return
        raise CallFailed(f"{source.name}: the answer ended early", "ENDED")

    def _parsed(self, data: bytes, root: Root) -> Manifest:
        try:
            return parse_manifest(data, root, self._limits)
        except RejectedError as error:
            if error.reason is RejectReason.DIGEST_MISMATCH:
                raise
            raise UnusableModel(error.reason, error.message, hint=error.hint) from error

    def _check_part(self, part: objects_pb2.ManifestPart, root: Root, here: int, total: int) -> None:
        if total > self._limits.manifest_bytes:
            fault = f"manifest {root.hex()[:12]}: {total} bytes, {self._limits.manifest_bytes} are allowed"
            raise RejectedError(RejectReason.HEADER_TOO_LARGE, fault, hint="Ask another node, or raise the limit.")
        right = part.root == root and part.offset == here and part.total_bytes == total
        if not right or not part.data or here + len(part.data) > total:
            raise malformed(f"manifest {root.hex()[:12]}", f"a part at {part.offset} of {part.total_bytes} bytes")

    @contextmanager
    def _call(
        self, source: Source, method: str, request: Message, parse: Any, deadline: float
    ) -> Iterator[tuple[Any, IdleWatch]]:
        """A running call. It is over at the end of the ``with``, whatever happened."""
        channel = self._channel_of(source.address)
        try:
            send: Any = channel.unary_stream(f"/mergenode.v1.Blobs/{method}", None, parse)
            call = send(request.SerializeToString(), timeout=deadline, metadata=call_metadata())
            with self._lock:
                self._calls.add(call)
                ended = self._ended
            watch = IdleWatch(self._patience, call.cancel)
            try:
                with watch:
                    if ended:
                        call.cancel()
                    yield call, watch
            except grpc.RpcError as error:
                raise _failure(source, error, watch.expired) from error
            finally:
                with self._lock:
                    self._calls.discard(call)
                call.cancel()
        finally:
            channel.close()


def _failure(source: Source, error: grpc.RpcError, stalled: bool) -> CallFailed:
    code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
    details = str(error.details() if isinstance(error, grpc.Call) else error)[:300]
    refusal = refusal_of(error)
    retry_after = refusal.retry_after if refusal is not None and refusal.retry_after else None
    return CallFailed(
        f"{source.name}: " + ("nothing came any more" if stalled else f"{code.name}: {details}"),
        objects_pb2.Refusal.Code.Name(refusal.code).removeprefix("CODE_") if refusal is not None else code.name,
        final=code in _NEVER_AGAIN,
        stalled=stalled or code is grpc.StatusCode.DEADLINE_EXCEEDED,
        retry_after=retry_after,
        alternatives=tuple(each.bytes for each in refusal.alternatives) if refusal is not None else (),
    )
