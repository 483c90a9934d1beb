"""A server of ``Blobs`` that does what a test says, and nothing that an honest one does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc

from mergenode.adapters.peers.weights.blob_service import SERVICE
from mergenode.wire.chunks import CHUNK_BYTES, chunks_of, frame_chunk
from mergenode.wire.encoding import Encoded, Encoding
from mergenode.wire.manifest import Manifest
from mergenode.wire.v1 import blobs_pb2, objects_pb2
from mergenode.wire.wanted import indexes_of

Frames = Callable[[blobs_pb2.FetchRequest], Iterator[bytes | None]]
"""The frames of an answer; None: wait for ever."""
Parts = Callable[[blobs_pb2.GetManifestRequest], Iterator[objects_pb2.ManifestPart | None]]


def honest_parts(manifest: Manifest) -> Parts:
    def parts(request: blobs_pb2.GetManifestRequest) -> Iterator[objects_pb2.ManifestPart]:
        data = manifest.packed
        for offset in range(request.offset, len(data), CHUNK_BYTES):
            piece = data[offset : offset + CHUNK_BYTES]
            yield objects_pb2.ManifestPart(root=request.root, offset=offset, total_bytes=len(data), data=piece)

    return parts


def wrong_blocks(manifest: Manifest) -> Frames:
    """Everything that is asked for, in the right form and with the wrong bytes."""

    def frames(request: blobs_pb2.FetchRequest) -> Iterator[bytes]:
        for index in indexes_of([(run.first, run.count) for run in request.blocks], manifest.block_count):
            payload = bytes(manifest.place(index).length)
            yield from map(frame_chunk, chunks_of(index, Encoded(Encoding.RAW, payload)))

    return frames


class HostileBlobs:
    """``calls``: by method; ``sent``: bytes of frames."""

    def __init__(self, parts: Parts, frames: Frames) -> None:
        self._parts, self._frames = parts, frames
        self.calls: Counter[str] = Counter()
        self.sent = 0

    def register(self, server: grpc.aio.Server) -> None:
        methods: dict[str, Any] = {
            "GetManifest": grpc.unary_stream_rpc_method_handler(
                self._manifest,
                request_deserializer=blobs_pb2.GetManifestRequest.FromString,
                response_serializer=objects_pb2.ManifestPart.SerializeToString,
            ),
            "Fetch": grpc.unary_stream_rpc_method_handler(
                self._fetch, request_deserializer=blobs_pb2.FetchRequest.FromString, response_serializer=None
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))

    async def _manifest(self, request: blobs_pb2.GetManifestRequest, context: Any) -> AsyncIterator[Any]:
        self.calls["GetManifest"] += 1
        for part in self._parts(request):
            if part is None:
                await asyncio.Event().wait()
            yield part

    async def _fetch(self, request: blobs_pb2.FetchRequest, context: Any) -> AsyncIterator[bytes]:
        self.calls["Fetch"] += 1
        for frame in self._frames(request):
            if frame is None:
                await asyncio.Event().wait()
                return
            self.sent += len(frame)
            yield frame
