"""The mixer ``dimat``, composed: settings and an exchange become the rounds of a node."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from mergenode.adapters.clock import SystemClock
from mergenode.adapters.engines.local.mixing import LocalModels
from mergenode.adapters.store.round_files import FolderRounds
from mergenode.adapters.tasks.round_worker import RoundWorker
from mergenode.bootstrap.parts import build_parts, limits_of, origin_for
from mergenode.bootstrap.reloading import Reloading
from mergenode.daemon.circle import Circle, MixPolicy, Neighbourhood
from mergenode.daemon.lifecycle import Lifecycle
from mergenode.daemon.recover import initialise
from mergenode.daemon.round import FIRST, begin
from mergenode.daemon.round_commit import after_restart
from mergenode.daemon.rounds import Rounds
from mergenode.daemon.tuning import settled
from mergenode.errors import RejectedError, TransientError, TransientReason, UsageError
from mergenode.mixers.rounds import RoundRules
from mergenode.mixers.topology import Topology, custom, exponential, full, ring, torus
from mergenode.ports.clock import Clock
from mergenode.ports.exchange import Exchange
from mergenode.ports.ledger_store import LedgerStore
from mergenode.ports.observer import Observer
from mergenode.settings import Settings
from mergenode.settings.mixers import MixerSettings

ROUNDS = "rounds"
"""Directory below the state directory."""

_GRAPHS = {"ring": ring, "full": full, "torus": torus, "exponential": exponential}


@contextmanager
def open_rounds(
    settings: Settings,
    exchange: Exchange,
    ledger: LedgerStore,
    observer: Observer,
    lifecycle: Lifecycle,
    *,
    once: bool = False,
    clock: Clock | None = None,
    reloading: Reloading | None = None,
) -> Iterator[Rounds]:
    """Rounds that are ready to run on a locked state: recovered, listening to the exchange.

    Raises:
        UsageError: settings that do not fit together, the plug-in or the exchange.
        FatalError: base, plug-in or state cannot be used.
    """
    mixer, task = settings.mixer, settings.task

    def stop() -> bool:
        observer.heartbeat()  # a training has a time limit of its own
        return lifecycle.abandon()

    with ExitStack() as stack:
        parts = build_parts(settings, ledger, observer, lifecycle, clock or SystemClock())
        initialise(parts.line, origin_for(parts))
        store = FolderRounds(settings.node.state / ROUNDS)
        store.prepare()
        models = LocalModels(limits=limits_of(settings), publish_dtype=parts.engine.publish_dtype)
        trainer = None
        if task.entrypoint is not None:
            trainer = stack.enter_context(
                RoundWorker(
                    task, batches=mixer.batches, seconds=mixer.training_seconds, stop=stop,
                    observer=observer,
                )
            )  # fmt: skip
        circle = Circle(
            line=parts.line,
            exchange=exchange,
            store=store,
            models=models,
            trainer=trainer,
            rules=rules_of(mixer),
            policy=policy_of(mixer),
            neighbourhood=neighbourhood_of(mixer, exchange),
        )
        _check_plugin(mixer, circle)
        after_restart(circle)

        def first() -> None:
            start = mixer.start or settings.base
            try:
                models.unite(start, store.staging(FIRST))
            except (RejectedError, TransientError) as error:
                if isinstance(error, TransientError) and error.reason is not TransientReason.VANISHED:
                    raise
                raise UsageError(f"mixer.start {start}: {error.message}", hint=error.hint) from error

        state = begin(circle, first)
        if trainer is not None and mixer.matching != "none":
            trainer.align(store.path(state.start), {}, {}, mixer.matching)  # a model without symmetry is refused now
        exchange.listen(lifecycle.poke)
        jitter = random.Random().random  # noqa: S311 - spreads retries, hides nothing
        tuning = settled if reloading is None else reloading.tuning(parts, lifecycle)
        yield Rounds(circle=circle, state=state, lifecycle=lifecycle, jitter=jitter, once=once, tuning=tuning)


def rules_of(mixer: MixerSettings) -> RoundRules:
    """How long a round waits and for whom. Liars: as many as the robust rule stands of five neighbours."""
    wait = mixer.wait
    return RoundRules(
        quorum=1.0 if mixer.synchronous else wait.quorum,
        staleness=0 if mixer.synchronous else wait.staleness,
        discount=wait.discount,
        shortest=wait.shortest,
        longest=wait.longest,
        synchronous=mixer.synchronous,
        liars=0 if mixer.defence.robust == "none" else 1,
    )


def policy_of(mixer: MixerSettings) -> MixPolicy:
    """How models are mixed."""
    defence = mixer.defence
    return MixPolicy(
        matching=mixer.matching,
        clip=defence.clip,
        limit=defence.limit,
        robust=defence.robust,
        trim=defence.trim,
        guard=defence.guard,
        evaluate=mixer.evaluate,
        rounds=mixer.rounds,
        publish_every=mixer.publish_every,
    )


def neighbourhood_of(mixer: MixerSettings, exchange: Exchange) -> Neighbourhood:
    """Who mixes with this node. Raises UsageError: it is no member, or the topology is none."""
    if mixer.topology == "neighbours":
        return Neighbourhood()
    return Neighbourhood.named(_topology(mixer), mixer.members, exchange.node_id)


def _topology(mixer: MixerSettings) -> Topology:
    if mixer.matrix is not None:
        return custom(mixer.matrix)
    return _GRAPHS[mixer.topology](len(mixer.members))


def _check_plugin(mixer: MixerSettings, circle: Circle) -> None:
    """Refuse what would otherwise fail in the first round, an hour later."""
    needs = {"build_model"} if circle.trainer is not None else set()
    if mixer.matching != "none":
        needs.add("calibration_batches")
    missing = sorted(name for name in needs if not circle.offers(name))
    if missing:
        raise UsageError(
            f"the task plug-in lacks {missing[0]}(), which mixer dimat needs here",
            hint="docs/dimat.md says which method is for what.",
        )
    if mixer.defence.guard is not None and not (
        circle.offers("evaluate") or (circle.offers("loss") and circle.offers("calibration_batches"))
    ):
        raise UsageError(
            "mixer.defence.guard is set, but the task plug-in has nothing to judge a model by",
            hint="Add loss() and calibration_batches(), or evaluate(); or set the guard to null.",
        )
