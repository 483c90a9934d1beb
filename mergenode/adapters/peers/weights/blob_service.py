"""The service ``Blobs``: what is on the shelf, for those who may ask. Nothing here waits for merging or for a lock."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio

from mergenode.adapters.peers.port.refusals import Code, refusal_metadata
from mergenode.adapters.peers.weights.block_serving import BlockServer, EncodedBlocks
from mergenode.adapters.peers.weights.call_watch import CallWatch
from mergenode.adapters.peers.weights.shelf import Shelf
from mergenode.adapters.peers.weights.shelf_reader import ShelfReader
from mergenode.adapters.peers.weights.transfer_observer import TransferObserver, Unobserved
from mergenode.errors import MergenodeError, RejectedError
from mergenode.wire.blocks import ID_BYTES, Root
from mergenode.wire.chunks import CHUNK_BYTES
from mergenode.wire.encoding import Encoding
from mergenode.wire.v1 import blobs_pb2, objects_pb2
from mergenode.wire.wanted import indexes_of

SERVICE = "mergenode.v1.Blobs"
T = TypeVar("T")
_ENCODINGS = {encoding.value: encoding for encoding in Encoding}


@dataclass(frozen=True, slots=True)
class ServingLimits:
    """``stalled_seconds``: how long a receiver may take nothing before its transfer ends and its place is free."""

    transfers: int = 4
    transfers_per_caller: int = 1
    threads: int = 2
    retry_after_ms: int = 2_000
    stalled_seconds: float = 60.0


def caller_of_context(context: Any) -> str:
    """Who calls, where nobody says it better: the name in the certificate, else the connection."""
    identities = context.peer_identities()
    return str(identities[0].decode("utf-8", "replace"))[:128] if identities else str(context.peer())


class BlobService:
    """Register it with a ``grpc.aio`` server. ``drain`` may be called from any thread."""

    def __init__(
        self,
        shelf: Shelf,
        observer: TransferObserver | None = None,
        limits: ServingLimits = ServingLimits(),
        caller_of: Callable[[Any], str] = caller_of_context,
        holders: Callable[[Root], Sequence[bytes]] = lambda root: (),
    ) -> None:
        """``caller_of``: a name for a call's context; ``holders``: ids of other nodes that may have a root."""
        self._shelf, self._observer, self._limits = shelf, observer or Unobserved(), limits
        self._caller_of, self._holders = caller_of, holders
        self._pool = ThreadPoolExecutor(limits.threads, "serving")
        self._cache = EncodedBlocks()
        self._active: Counter[str] = Counter()
        self._running: dict[tuple[str, bytes], CallWatch] = {}
        self._draining = False

    def register(self, server: grpc.aio.Server) -> None:
        """Answer the calls of ``Blobs`` on this server. Blocks leave as frames that were made by hand."""
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "GetManifest": grpc.unary_stream_rpc_method_handler(
                self.get_manifest,
                request_deserializer=blobs_pb2.GetManifestRequest.FromString,
                response_serializer=objects_pb2.ManifestPart.SerializeToString,
            ),
            "Fetch": grpc.unary_stream_rpc_method_handler(
                self.fetch, request_deserializer=blobs_pb2.FetchRequest.FromString, response_serializer=None
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        server.add_registered_method_handlers(SERVICE, methods)

    def drain(self) -> None:
        """Refuse new transfers; those under way go on."""
        self._draining = True

    @property
    def active(self) -> int:
        """Transfers under way."""
        return self._active.total()

    def close(self) -> None:
        """End the threads. Call it when the server has stopped."""
        self._pool.shutdown(cancel_futures=True)

    async def get_manifest(self, request: blobs_pb2.GetManifestRequest, context: Any) -> None:
        """``GetManifest`` of blobs.proto."""
        reader = await self._opened(request.root, context)
        reader.close()
        packed = reader.manifest.packed
        if request.offset >= len(packed):
            await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, _invalid(f"offset {request.offset}"))
        watch = CallWatch(context, self._limits.stalled_seconds)
        async with watch.guarding():
            for offset in range(request.offset, len(packed), CHUNK_BYTES):
                piece = packed[offset : offset + CHUNK_BYTES]
                part = objects_pb2.ManifestPart(root=request.root, offset=offset, total_bytes=len(packed), data=piece)
                await context.write(part)
                watch.moved()

    async def fetch(self, request: blobs_pb2.FetchRequest, context: Any) -> None:
        """``Fetch`` of blobs.proto."""
        async with self._place(request, context) as (caller, watch):
            reader = await self._opened(request.root, context)
            try:
                indexes = indexes_of([(run.first, run.count) for run in request.blocks], reader.manifest.block_count)
            except RejectedError as error:
                reader.close()
                await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, _invalid(error.message))
            base = None
            if len(request.have_base) == ID_BYTES and request.have_base != request.root:
                base = await self._in_thread(lambda: self._shelf.open(Root(request.have_base)))
            accept = {_ENCODINGS[number] for number in request.accept if number in _ENCODINGS}
            server = BlockServer(reader, base, accept, self._cache, caller)
            try:
                await self._send(server, indexes, (Root(request.root), caller), context, watch)
            except grpc.aio.InternalError as error:  # the receiver is gone: nobody is left to be told
                raise asyncio.CancelledError from error
            finally:
                self._observer.sending(Root(request.root), caller, 0, 0, over=True)
                self._pool.submit(server.close)  # after the block that a thread may be at

    async def _send(
        self, server: BlockServer, indexes: list[int], asked: tuple[Root, str], context: Any, watch: CallWatch
    ) -> None:
        """One block is made ready while the one before it leaves. Back-pressure is that of the stream."""
        done, total = 0, sum(map(server.block_bytes, indexes))
        self._observer.sending(*asked, done, total)
        ready = self._ready(server, indexes[0]) if indexes else None
        for number, index in enumerate(indexes):
            assert ready is not None
            try:
                encoding, nbytes, frames = await ready
            except MergenodeError as error:
                refusal = _refusal(Code.CODE_UNKNOWN_ROOT, error.message, error.hint)
                await _refuse(context, grpc.StatusCode.DATA_LOSS, refusal)
            following = number + 1
            ready = self._ready(server, indexes[following]) if following < len(indexes) else None
            for frame in frames:
                await context.write(frame)
                watch.moved()
            done += server.block_bytes(index)
            self._observer.moved("out", asked[1], encoding, nbytes, server.block_bytes(index))
            self._observer.sending(*asked, done, total)

    def _ready(self, server: BlockServer, index: int) -> asyncio.Future[tuple[Encoding, int, list[bytes]]]:
        return asyncio.get_running_loop().run_in_executor(self._pool, server.frames, index)

    @asynccontextmanager
    async def _place(self, request: blobs_pb2.FetchRequest, context: Any) -> AsyncIterator[tuple[str, CallWatch]]:
        """One of the places for transfers, for the caller, or a refusal that says when to come back."""
        caller = self._caller_of(context)
        if self._draining:
            refusal = _refusal(Code.CODE_DRAINING, "this node is about to stop", "Ask another node.")
            refusal.alternatives.extend(self._holders(Root(request.root)))
            await _refuse(context, grpc.StatusCode.UNAVAILABLE, refusal)
        key = (caller, request.root)
        await self._replace(key)
        if self._active[caller] >= self._limits.transfers_per_caller or self.active >= self._limits.transfers:
            refusal = _refusal(Code.CODE_BUSY, f"{self.active} transfers are under way", "Come back later.")
            refusal.retry_after_ms = self._limits.retry_after_ms
            refusal.alternatives.extend(self._holders(Root(request.root)))
            await _refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, refusal)
        self._active[caller] += 1
        self._running[key] = watch = CallWatch(context, self._limits.stalled_seconds)
        self._observer.active("out", 1)
        async with watch.guarding():
            try:
                yield caller, watch
            finally:
                self._active[caller] -= 1
                self._active += Counter()  # forgets who has none
                if self._running.get(key) is watch:
                    del self._running[key]
                self._observer.active("out", -1)
                watch.left.set()

    async def _replace(self, key: tuple[str, bytes]) -> None:
        """Who asks for a root anew has given up the call before, even if that cannot be seen on a half-open line."""
        before = self._running.get(key)
        if before is not None:
            before.end(grpc.StatusCode.ABORTED, "the caller asked anew")
            await before.left.wait()

    async def _opened(self, root: bytes, context: Any) -> ShelfReader:
        if len(root) != ID_BYTES:
            await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, _invalid(f"a root of {len(root)} bytes"))
        try:
            reader = await self._in_thread(lambda: self._shelf.open(Root(root)))
        except MergenodeError as error:
            refusal = _refusal(Code.CODE_UNSPECIFIED, error.message, error.hint)
            await _refuse(context, grpc.StatusCode.UNAVAILABLE, refusal)
        if reader is None:
            refusal = _refusal(Code.CODE_UNKNOWN_ROOT, f"{root.hex()[:12]} is not here", "Ask another node.")
            refusal.alternatives.extend(self._holders(Root(root)))
            await _refuse(context, grpc.StatusCode.NOT_FOUND, refusal)
        return reader

    async def _in_thread(self, action: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, action)


async def _refuse(context: Any, status: grpc.StatusCode, refusal: objects_pb2.Refusal) -> NoReturn:
    await context.abort(status, refusal.message, (refusal_metadata(status, refusal),))
    raise AssertionError("abort raises")


def _refusal(code: Any, message: str, hint: str) -> objects_pb2.Refusal:
    return objects_pb2.Refusal(code=code, message=message, hint=hint)


def _invalid(fault: str) -> objects_pb2.Refusal:
    return _refusal(
        Code.CODE_UNSPECIFIED, f"request for weights: {fault}", "The caller is broken or of another version."
    )
