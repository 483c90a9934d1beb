"""An intake on loopback: a real gRPC server in a thread of its own, callers by metadata, a ledger that is told."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from mergenode.adapters.checkpoints.base import describe_base
from mergenode.adapters.clock import SystemClock
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.peers.intake.held import HeldModel
from mergenode.adapters.peers.intake.intake_service import IntakeService
from mergenode.adapters.peers.intake.intake_work import IntakeRules
from mergenode.adapters.peers.intake.outcomes import Outcome, Outcomes
from mergenode.adapters.peers.intake.put_stream import PutTimes
from mergenode.adapters.peers.intake.upload_admission import UploadLimits
from mergenode.adapters.peers.intake.uploads import IntakeSide, Uploads
from mergenode.adapters.peers.pushing.local_model import LocalModel, describe_model
from mergenode.adapters.peers.pushing.pushing import Pushing, PushOrder, PushReport, PushTimes
from mergenode.ports.clock import Clock
from mergenode.ports.observer import Observer
from mergenode.types import Digest

LINEAGE = "mergenode"
GENEROUS = UploadLimits(min_free=0)
BOUND_SECONDS = 60.0
"""How long a test waits for what happens within milliseconds on a machine that is not overloaded."""


@dataclass(frozen=True)
class FakeCaller:
    name: str
    quota: int | None = None
    lineages: tuple[str, ...] = (LINEAGE,)

    def may_push(self, lineage: str) -> bool:
        return lineage in self.lineages


@dataclass
class FakeOutcomes:
    """Says what the test wrote down."""

    pushes: dict[str, Outcome] = field(default_factory=dict)
    contents: dict[Digest, Outcome] = field(default_factory=dict)
    pool: dict[Digest, Outcome] = field(default_factory=dict)

    def position(self) -> int:
        return 0

    def of_push(self, entry: str, after: int) -> Outcome | None:
        return self.pushes.get(entry)

    def of_content(self, content: Digest) -> Outcome | None:
        return self.contents.get(content)

    def of_pool(self, content: Digest) -> Outcome | None:
        return self.pool.get(content)


def open_uploads(
    state: Path, base: Path, *, limits: UploadLimits = GENEROUS, clock: Clock | None = None,
    outcomes: Outcomes | None = None, poke: Callable[[], None] = lambda: None,
    observer: Observer | None = None,
) -> Uploads:  # fmt: skip
    """The store of a node of ``base``."""
    side = IntakeSide(
        state=state, base=describe_base(base), clock=clock or SystemClock(), outcomes=outcomes or FakeOutcomes(),
        held=HeldModel(base), limits=limits, poke=poke, observer=observer or FanOut([]),
    )  # fmt: skip
    return Uploads(side)


class _Counting(aio.ServerInterceptor):
    """Counts calls by method; ``started`` is set once a ``Put`` came."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        self.calls[details.method.rpartition("/")[2]] += 1
        return await continuation(details)


class Intake:
    """Use it in ``with``. ``callers``: by the metadata ``pusher``; nobody named is ``team-a``."""

    def __init__(
        self, uploads: Uploads, *, port: int = 0, times: PutTimes | None = None, most_streams: int = 16
    ) -> None:
        self.uploads = uploads
        self.callers: dict[str, FakeCaller] = {}
        self._counting = _Counting()
        rules = IntakeRules(lineage=LINEAGE, times=times or PutTimes(), most_streams=most_streams, busy_ms=50)
        self.service = IntakeService(uploads, rules, self._caller)
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(port,))

    @property
    def calls(self) -> Counter[str]:
        return self._counting.calls

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(self.address, (("grpc.use_local_subchannel_pool", 1),))

    def push(self, model: LocalModel | Path, name: str = "tuned", pusher: str = "team-a", **more: Any) -> PushReport:
        """Describe and push, as the command does."""
        if isinstance(model, Path):
            with describe_model(model) as described:
                return self.push(described, name, pusher, **more)
        return self.pushing(model, name, pusher, **more).push()

    def pushing(self, model: LocalModel, name: str = "tuned", pusher: str = "team-a", **more: Any) -> Pushing:
        order = more.pop("order", None) or PushOrder(name=name, lineage=LINEAGE)
        options: dict[str, Any] = {
            "address": self.address, "clock": SystemClock(), "pause": threading.Event().wait,
            "metadata": (("pusher", pusher),), "times": PushTimes(poll=0.01), "jitter": lambda: 0.01,
        } | more  # fmt: skip
        return Pushing(model, order, options.pop("open_channel", self.channel), **options)

    def __enter__(self) -> Intake:
        self._thread.start()
        assert self._ready.wait(BOUND_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Hard: calls under way are cut. Idempotent."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(BOUND_SECONDS)
            assert not self._thread.is_alive()
            self.service.close()

    def _caller(self, context: Any) -> FakeCaller:
        name = dict(context.invocation_metadata() or ()).get("pusher", "team-a")
        return self.callers.get(name, FakeCaller(name))

    def _run(self, port: int) -> None:
        self._loop.set_exception_handler(_noted)
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(port))

    async def _serve(self, port: int) -> None:
        server = aio.server(interceptors=[self._counting])
        self.service.register(server)
        self.port = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        self._ready.set()
        await self._stopping.wait()
        await server.stop(0)


def _noted(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Loops of one process share the socket that grpc wakes them by: those that find nothing there say so."""
    if not isinstance(context.get("exception"), BlockingIOError):
        loop.default_exception_handler(context)
