"""A stream of chunks as blocks, with a bound on how long it may stand still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc

from mergenode.adapters.peers.intake.intake_refusals import RefusedError
from mergenode.adapters.peers.intake.upload_terms import invalid
from mergenode.wire.chunks import BlockAssembly, Chunk, read_chunk
from mergenode.wire.encoding import Encoded

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class PutTimes:
    """Seconds. ``idle``: without a single chunk; ``block``: for a whole block, so that drops of bytes hold nothing."""

    idle: float = 30.0
    block: float = 600.0


async def within(seconds: float, items: AsyncIterator[Item]) -> Item | None:
    """The next item, None at the end. Raises RefusedError (DEADLINE_EXCEEDED) when none comes in time."""
    try:
        async with asyncio.timeout(seconds):
            return await anext(items, None)
    except TimeoutError as error:
        raise RefusedError(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            f"nothing came for {seconds:g} s",
            hint="Begin again where it stopped; what arrived is kept.",
        ) from error


class PutStream:
    """Reads the frames of one ``Put``. Memory: one block."""

    def __init__(self, frames: AsyncIterator[bytes], times: PutTimes) -> None:
        self._frames = frames
        self._times = times
        self._ahead: Chunk | None = None

    async def upload_id(self) -> bytes:
        """What the first chunk says. Raises RefusedError or RejectedError when there is no good one."""
        self._ahead = await self._chunk()
        if self._ahead is None or not self._ahead.upload_id:
            raise invalid("the first chunk names no upload")
        return self._ahead.upload_id

    async def block(self, length_of: Callable[[int], int]) -> tuple[int, Encoded] | None:
        """The next whole block and its index; None at the end of the stream.

        Raises RejectedError or RefusedError for chunks that do not make one, or that come too slowly.
        """
        try:
            async with asyncio.timeout(self._times.block):
                return await self._assembled(length_of)
        except TimeoutError as error:
            message = f"no block was complete for {self._times.block:g} s"
            raise RefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, message) from error

    async def _assembled(self, length_of: Callable[[int], int]) -> tuple[int, Encoded] | None:
        chunk, self._ahead = self._ahead, None
        if chunk is None:
            chunk = await self._chunk()
        if chunk is None:
            return None
        index = chunk.block
        assembly = BlockAssembly(index, length_of(index))
        while True:
            encoded = assembly.add(chunk)
            if encoded is not None:
                return index, encoded
            chunk = await self._chunk()
            if chunk is None:
                raise invalid(f"the stream ended inside block {index}")

    async def _chunk(self) -> Chunk | None:
        frame = await within(self._times.idle, self._frames)
        return None if frame is None else read_chunk(frame)
