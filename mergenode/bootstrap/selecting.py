"""The selector ``frank_wolfe``, composed: settings, pool and task plug-in become what the loop asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mergenode.adapters.engines.local.pool.engine import LocalPool
from mergenode.adapters.engines.local.pool.objective import PoolObjective
from mergenode.adapters.engines.local.pool.parts import merged
from mergenode.adapters.registries.requests import REGISTRY
from mergenode.adapters.tasks.worker import TaskWorker
from mergenode.bootstrap.parts import Parts, limits_of
from mergenode.daemon.lifecycle import Lifecycle
from mergenode.daemon.selected import Naming
from mergenode.daemon.selecting import Selecting
from mergenode.daemon.task_features import refuse_missing
from mergenode.errors import TransientError
from mergenode.ledger.groups import layer_group
from mergenode.ledger.selection import objective_digest
from mergenode.ports.task import FRANK_WOLFE
from mergenode.selectors.contract import Options
from mergenode.settings import Settings
from mergenode.settings.selectors import SelectorSettings
from mergenode.types import Digest, DType

POOL = "pool"
"""The index, below the state directory."""
SETTLING_SECONDS = 600.0
"""How long a selection waits for a file that is written to all the time, beyond what any registry takes to settle."""
TRIALS = "selecting"
"""Trial models of a selection under way, below the state directory."""


@contextmanager
def open_selecting(settings: Settings, parts: Parts, lifecycle: Lifecycle) -> Iterator[Selecting]:
    """What the loop asks, with the process of the plug-in.

    Raises UsageError when the plug-in cannot serve a selection, FatalError when there is none.
    """
    selector, state, line = settings.selector, settings.node.state, parts.line

    def stop() -> bool:
        line.observer.heartbeat()
        return lifecycle.draining

    with TaskWorker(settings.task, stop=stop, observer=line.observer) as worker:
        try:
            refuse_missing(settings.task.entrypoint, worker.methods(), [FRANK_WOLFE])
        except TransientError as error:  # the node keeps what it has, and asks again when something is to be selected
            line.observer.message("warning", f"the task plug-in does not answer: {error.message}", hint=error.hint)
        groups = groups_of(parts) if selector.granularity == "layers" else {}
        pool = LocalPool(
            base=parts.base,
            open_base=parts.engine.open_base,
            folder=state / POOL,
            limits=limits_of(settings),
            trial_dtype=DType.F32,
            stop=stop,
            observer=line.observer,
        )
        yield Selecting(
            line=line,
            objective=PoolObjective(
                pool=pool,
                plugin=worker,
                scratch=state / TRIALS,
                asked=identity_of(settings),
                groups=tuple(groups),
                best=selector.vertices if selector.variant == "soft" else 1,
                exact_up_to=selector.exact if selector.index else None,
                batches=selector.batches,
            ),
            identity=identity_of(settings),
            options=options_of(selector),
            tolerance=selector.gap,
            longest=selector.longest,
            limit=selector.limit,
            settling_seconds=SETTLING_SECONDS + 2.0 * max((r.settle_seconds for r in settings.registries), default=0.0),
            named=frozenset({REGISTRY}),
            naming=Naming(weights=selector.weights_for(settings.method.name), floor=selector.floor, groups=groups),
        )


def options_of(selector: SelectorSettings) -> Options:
    """The settings in the words of ``mergenode.selectors``."""
    return Options(
        variant="away" if selector.away_steps else "plain",
        step="schedule" if selector.step == "schedule" and selector.variant == "hard" else "line",
        by_group=selector.granularity == "layers",
        soft=selector.vertices if selector.variant == "soft" else 1,
        rounds=selector.rounds,
    )


def identity_of(settings: Settings) -> Digest:
    """What is asked of the pool: another answer is due when it changes. How it is read, and how many
    it keeps, makes no difference."""
    asked = settings.selector.model_dump(exclude={"index", "exact", "limit"})
    return objective_digest({"task": settings.task.entrypoint, **asked})


def groups_of(parts: Parts) -> dict[str, list[str]]:
    """Names of the merged tensors by layer group, in the order of the base."""
    groups: dict[str, list[str]] = {}
    for spec in merged(parts.base):
        groups.setdefault(layer_group(spec.name), []).append(spec.name)
    return groups
