"""The intake of a node, composed: store, service and registry of what teams push."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.peers.intake.held import HeldModel
from mergenode.adapters.peers.intake.intake_service import Context, IntakeService, Pusher
from mergenode.adapters.peers.intake.intake_work import IntakeRules
from mergenode.adapters.peers.intake.outcomes import LedgerOutcomes
from mergenode.adapters.peers.intake.upload_admission import UploadLimits
from mergenode.adapters.peers.intake.uploads import IntakeSide, Uploads
from mergenode.adapters.registries.pushes import PushesRegistry
from mergenode.bootstrap.parts import limits_of
from mergenode.ports.clock import Clock
from mergenode.ports.ledger_store import LedgerReader
from mergenode.ports.observer import Observer
from mergenode.settings import Settings
from mergenode.tracing.spans import SILENT, Tracer


@dataclass(frozen=True, slots=True)
class NodeIntake:
    """``service.register(server)`` adds it to a gRPC server; ``registry`` goes to the loop under the name ``push``."""

    service: IntakeService
    registry: PushesRegistry
    held: HeldModel

    def close(self) -> None:
        """After the gRPC server stopped. Idempotent."""
        with ExitStack() as stack:
            stack.callback(self.held.close)
            stack.callback(self.service.close)


def open_intake(
    settings: Settings, *, base: BaseModel, reader: LedgerReader, clock: Clock, poke: Callable[[], None],
    caller_of: Callable[[Context], Pusher], tell: Callable[[str], None] = lambda text: None,
    tracer: Tracer = SILENT, observer: Observer | None = None,
) -> NodeIntake:  # fmt: skip
    """Recover what was pushed before and be ready to serve. Call it with the state locked, before the loop starts.

    Args:
        base: ``Parts.base``.
        reader: of the ledger of this state, open as long as the intake is.
        poke: ``Lifecycle.poke``: a push that is complete is looked at at once.
        caller_of: who is behind a call; ``adapters.peers.access.callers.caller_of`` behind the gate of the server.
        tell: one line for the log.
        tracer: is told of the work on pushes.
        observer: told how far uploads are.
    """
    rules, limits = settings.peers.intake, limits_of(settings)
    held = HeldModel(settings.base, limits=limits)
    side = IntakeSide(
        state=settings.node.state,
        base=base,
        clock=clock,
        outcomes=LedgerOutcomes(reader, selects=settings.selector.name != "all"),
        held=held,
        limits=UploadLimits(
            max_upload=min(rules.max_upload, limits.checkpoint_bytes),
            daily_quota=rules.daily_quota,
            min_free=rules.min_free,
            expire_seconds=rules.expire_seconds,
        ),
        checkpoints=limits,
        poke=poke,
        observer=observer or FanOut([]),
    )
    uploads = Uploads(side)
    service = IntakeService(uploads, IntakeRules(lineage=settings.peers.lineage), caller_of, tell, tracer)
    registry = PushesRegistry(
        settings.node.state, clock=clock, limits=limits, settled=uploads.settled, tidy=uploads.tidy
    )
    return NodeIntake(service, registry, held)
