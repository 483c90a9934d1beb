"""Fetch a model by its root, from whoever has it, whatever breaks on the way: complete and verified, or not there.

A transfer waits for progress, not for a total time. It goes on from its journal after any death of either end, asks
another source when one stalls, refuses or lies, and never asks for what is on this machine already.
"""

from __future__ import annotations

import math
import random as random_numbers
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic as monotonic_seconds
from typing import TypeVar

import grpc

from mergenode.adapters.peers.weights.arriving import ArrivingBlocks
from mergenode.adapters.peers.weights.blob_calls import BlobCalls, CallFailed, UnusableModel
from mergenode.adapters.peers.weights.idle_watch import IdleWatch
from mergenode.adapters.peers.weights.landing import Landing
from mergenode.adapters.peers.weights.local_copies import (
    choose_base,
    copy_from_shelf,
    copy_from_transfers,
    copy_repeats,
)
from mergenode.adapters.peers.weights.shelf import Shelf, read_manifest
from mergenode.adapters.peers.weights.sources import Patience, Source, SourceBook
from mergenode.adapters.peers.weights.transfer_observer import TransferObserver, TransferProgress, Unobserved
from mergenode.errors import MergenodeError, RejectedError, RejectReason, TransientError, TransientReason
from mergenode.tracing.ids import weights_trace
from mergenode.tracing.spans import SILENT, Tracer
from mergenode.wire.blocks import Root
from mergenode.wire.encoding import EVERY_ENCODING, Encoding
from mergenode.wire.journal import indexes_in
from mergenode.wire.limits import DEFAULT_WIRE_LIMITS, WireLimits
from mergenode.wire.manifest import Manifest
from mergenode.wire.transfer import Verdict
from mergenode.wire.v1 import blobs_pb2, objects_pb2
from mergenode.wire.wanted import lacking, runs_of

T = TypeVar("T")

_LONGEST_WAIT = 1.0
"""Seconds until the sources are looked at again: others may be there."""
_NO_SOURCE = "It goes on when a node that holds it is reachable; `mergenode peers` shows which are."


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """``accept_without_base``: encodings where there is no model to compare with; raw costs the least CPU.

    ``tracer``: is told of every transfer.
    """

    limits: WireLimits = DEFAULT_WIRE_LIMITS
    patience: Patience = field(default_factory=Patience)
    accept_without_base: frozenset[Encoding] = frozenset({Encoding.RAW})
    tracer: Tracer = SILENT


@dataclass(frozen=True, slots=True)
class Order:
    """What is fetched. ``sources`` and ``wanted`` are asked again and again; ``schema``: what the head promised."""

    root: Root
    sources: Callable[[], Sequence[Source]]
    schema: bytes | None = None
    wanted: Callable[[], bool] = lambda: True
    copied: Callable[[], None] = lambda: None
    """Called when everything that is on this machine was taken."""
    prefer: Sequence[Root] = ()
    """Models that are probably close to this one and held by the sender too, best first; see ``choose_base``."""


class Fetcher:
    """Fetches for one shelf. ``fetch`` may run in several threads, for different roots."""

    def __init__(
        self,
        shelf: Shelf,
        channel_of: Callable[[str], grpc.Channel],
        observer: TransferObserver | None = None,
        accuse: Callable[[Source, str, str], None] = lambda source, code, message: None,
        settings: FetchSettings = FetchSettings(),
        monotonic: Callable[[], float] = monotonic_seconds,
        random: Callable[[], float] = random_numbers.random,
    ) -> None:
        """``channel_of``: a new channel to an address, as of ``open_bulk_channel``; it is closed here. ``accuse``: a
        source, a code and a message, when it sent what no honest node sends, twice."""
        self._shelf, self._observer, self._accuse = shelf, observer or Unobserved(), accuse
        self._settings, self._monotonic = settings, monotonic
        self.book = SourceBook(monotonic, random, settings.patience)
        self._stopped = threading.Event()
        self._calls = BlobCalls(channel_of, settings.patience, settings.limits)

    def stop(self) -> None:
        """End all transfers now; they go on in another life. From any thread."""
        self._stopped.set()
        self._calls.cancel_all()

    def fetch(self, order: Order) -> bool:
        """Bring a model to the shelf as one file. False: it is not wanted any more, or ``stop`` was called.

        Durability: the entry is on disk on return. Idempotence: what is there is not fetched again. Memory: a few
        blocks, the manifest, and what ``open_bulk_channel`` lets be under way.

        Raises:
            UnusableModel: the model behind the root is malformed, too large, or not of the schema: nobody can help.
            TransientError: DISK_FULL, WRITE_FAILED; VANISHED: nobody is left who can be asked. What came stays.
        """
        if self._shelf.whole(order.root) is not None:
            return True
        with self._settings.tracer.span("fetch", weights_trace(order.root.hex()), root=order.root.hex()) as about:
            about["whole"] = whole = self._fetched(order)
            return whole

    def _fetched(self, order: Order) -> bool:
        begun = self._monotonic()
        self.book.forgive(order.root)
        self._observer.active("in", 1)
        try:
            manifest = self._manifest(order)
            if manifest is None:
                return False
            with Landing(self._shelf, manifest) as landing:
                whole = self._land(order, landing)
            if whole:
                self._shelf.adopt(order.root, manifest)
                self._observer.fetched(order.root, self._monotonic() - begun)
            return whole
        finally:
            self._observer.left(order.root)
            self._observer.active("in", -1)

    def _manifest(self, order: Order) -> Manifest | None:
        manifest = self._shelf.manifests().get(order.root)
        if manifest is None:
            try:
                manifest = read_manifest(self._shelf.staging(order.root), order.root)
            except MergenodeError:
                manifest = self._asked(order, lambda source: self._calls.manifest(source, order.root))
        if manifest is not None and order.schema not in (None, manifest.schema_hash):
            self._shelf.drop_staging(order.root)
            raise UnusableModel(
                RejectReason.SHAPE_MISMATCH,
                f"model {order.root.hex()[:12]}: names, types or shapes are not those that its head promises",
                hint="Whoever signed the head is broken or lies.",
            )
        return manifest

    def _land(self, order: Order, landing: Landing) -> bool:
        """Until every block is on disk; False when it is not wanted any more."""
        if landing.inherited:
            self._observer.resumed(order.root, landing.done_bytes, landing.manifest.total_bytes)
        self._observer.deduplicated(copy_from_shelf(landing, self._shelf) + copy_from_transfers(landing, self._shelf))
        order.copied()
        begun = (self._monotonic(), landing.done_bytes)
        repeats = set(lacking(landing.manifest).repeats)
        while True:
            if not landing.state.wanted:
                if landing.finish():
                    return True
                continue
            if self._asked(order, lambda source: self._stream(order, landing, source, repeats, begun)) is None:
                return False

    def _stream(
        self, order: Order, landing: Landing, source: Source, repeats: set[int], begun: tuple[float, int]
    ) -> bool:
        """One request to one source, for everything that is wanted and not a repeat of what comes anyway."""
        self._observer.deduplicated(copy_repeats(landing))
        asked = [index for index in indexes_in(landing.state.wanted) if index not in repeats]
        if not asked:
            repeats.clear()  # they could not be copied: they are asked for like all others
            return True
        base_root = choose_base(landing.manifest, self._shelf, order.prefer)
        base = self._shelf.open(base_root) if base_root is not None else None
        try:
            accept = EVERY_ENCODING if base is not None else self._settings.accept_without_base
            request = blobs_pb2.FetchRequest(
                root=order.root,
                blocks=[objects_pb2.Range(first=first, count=count) for first, count in runs_of(asked)],
                accept=[objects_pb2.Encoding.Name(encoding) for encoding in sorted(accept)],
                have_base=base.root if base is not None else b"",
            )
            arriving = ArrivingBlocks(landing, asked, source.name, base, self._observer)
            take = partial(self._take, order, landing, source, arriving, begun)
            try:
                self._calls.fetch(source, request, sum(landing.manifest.place(index).length for index in asked), take)
            finally:
                self._observer.wasted(source.name, arriving.wasted_bytes)
        finally:
            if base is not None:
                base.close()
        return True

    def _take(
        self,
        order: Order,
        landing: Landing,
        source: Source,
        arriving: ArrivingBlocks,
        begun: tuple[float, int],
        frame: bytes,
        watch: IdleWatch,
    ) -> bool:
        """One frame; True: no more of them."""
        verdict = arriving.add(frame)
        if verdict is None:
            watch.piece()
            return False
        if verdict is Verdict.VERIFIED:
            watch.block()
            self.book.worked(source)
            self._progress(landing, begun, source.name)
        else:
            self._observer.mismatched(source.name)
            self._observer.refetched(source.name, 1)
        if verdict is Verdict.BANNED:
            self.book.ban(order.root, source)
            self._accuse(source, "hash_mismatch", f"a block of {order.root.hex()[:12]} was wrong twice")
        return arriving.complete or verdict is Verdict.BANNED or not order.wanted()

    def _asked(self, order: Order, ask: Callable[[Source], T]) -> T | None:
        """Ask one source after another until one answers. None: it is not wanted any more.

        TransientError (VANISHED): everybody refused or lied, or there is nobody.
        """
        preferred: tuple[bytes, ...] = ()
        while order.wanted() and not self._stopped.is_set():
            sources = order.sources()
            source, wait = self.book.choose(order.root, sources, preferred)
            if source is None:
                if math.isinf(wait):
                    fault = f"model {order.root.hex()[:12]}: none of {len(sources)} nodes can be asked for it"
                    raise TransientError(TransientReason.VANISHED, fault, hint=_NO_SOURCE)
                self._stopped.wait(min(wait, _LONGEST_WAIT))
                continue
            try:
                return ask(source)
            except CallFailed as failure:
                preferred = failure.alternatives
                self._failed(order, source, failure)
            except UnusableModel:
                raise
            except RejectedError as error:
                self._broken(order, source, error)
        return None

    def _failed(self, order: Order, source: Source, failure: CallFailed) -> None:
        """The call ended early: when is this source asked again?"""
        if self._stopped.is_set():
            return
        if failure.stalled:
            self._observer.stalled(source.name)
        else:
            self._observer.refused(source.name, failure.code)
        if failure.final:
            self.book.refused(order.root, source)
        else:
            self.book.failed(source, failure.retry_after)

    def _broken(self, order: Order, source: Source, error: RejectedError) -> None:
        """It sent what no honest node sends."""
        self.book.failed(source)
        if self.book.strike(order.root, source):
            self._accuse(source, error.reason.value, error.message)

    def _progress(self, landing: Landing, begun: tuple[float, int], peer: str) -> None:
        seconds, done, total = self._monotonic() - begun[0], landing.done_bytes, landing.manifest.total_bytes
        rate = (done - begun[1]) / seconds if seconds > 0 else 0.0
        remaining = (total - done) / rate if rate > 0 else None
        told = TransferProgress(landing.manifest.root, done, total, rate, remaining, peer, begun[1])
        self._observer.progress(told)
