"""``mergenode plan``, composed: what a node takes at most on disk and in memory, before it is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.durable import free_bytes
from mergenode.adapters.engines.local.export import output_spec
from mergenode.adapters.engines.local.shards import shard_layout
from mergenode.adapters.engines.local.tensors import accumulator_dtype
from mergenode.adapters.store.generations import FolderGenerations
from mergenode.bootstrap.name_patterns import warn_of_idle_patterns
from mergenode.bootstrap.parts import engine_of
from mergenode.methods.contract import Method
from mergenode.methods.rescale import asked_scale, is_chosen_later
from mergenode.methods.scaling import EVALUATE
from mergenode.ports.observer import Observer
from mergenode.settings import Settings
from mergenode.types import DType, TensorSpec


@dataclass(frozen=True, slots=True)
class Need:
    """One line of a plan: ``count`` pieces of ``each`` bytes at most, on the file system of ``where``."""

    what: str
    where: Path
    count: int
    each: int

    @property
    def bytes(self) -> int:
        return self.count * self.each


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """What a node needs at most, whatever the number of contributions, without its ledger. Bytes."""

    method: str
    retracts: str
    parameters: int
    memory: int
    needs: tuple[Need, ...]
    state_free: int
    published_free: int

    @property
    def disk(self) -> int:
        return sum(need.bytes for need in self.needs)


def plan_node(settings: Settings, observer: Observer) -> NodePlan:
    """What the node of these settings takes at most. Reads the base (once; a node that ran has its figures kept).

    Raises FatalError when the base cannot be read, or ``engine.memory_limit`` cannot hold a fold or an export of it;
    the message names the tensor and the limit it takes.
    """
    with TemporaryDirectory(prefix="mergenode-plan-") as scratch:
        engine = engine_of(settings, FolderGenerations(Path(scratch)), observer)
        warn_of_idle_patterns(settings, engine.base, observer)
        memory = engine.check_memory()
    method, base, state, published = engine.method, engine.base, settings.node.state, settings.publish.path
    statistics, version = statistics_bytes(base, method), version_bytes(base, engine.publish_dtype)
    snapshots = settings.snapshots.keep if settings.snapshots.every else 0
    needs = [
        Need("statistics: the current ones, and those of a fold under way", state, 2, statistics),
        Need("snapshots (snapshots.keep)", state, snapshots, statistics),
        Need("a replay under way, when contributions leave", state, 2, statistics),
        Need("versions (publish.keep), and one while publishing", published, settings.publish.keep + 1, version),
    ]
    if is_chosen_later(method):
        update = sum(spec.numel * accumulator_dtype(spec).itemsize for spec in _merged(base))
        needs.append(Need("an export under way: the update", state, 1, update))
        needs.append(Need("an export under way: a candidate", state, int(asked_scale(method) == EVALUATE), version))
    if settings.weigh.name == "fit":
        needs.append(Need("a trial merge, while a weight is being found", state, 1, statistics + version))
    return NodePlan(
        method=method.name,
        retracts="subtracts" if method.retractable else "replays the contributions after the newest snapshot before it",
        parameters=sum(spec.numel for spec in base.specs.values()),
        memory=memory,
        needs=tuple(need for need in needs if need.count),
        state_free=free_bytes(state),
        published_free=free_bytes(published),
    )


def statistics_bytes(base: BaseModel, method: Method) -> int:
    """Most bytes that one generation of statistics takes, without headers and records."""
    sizes = ((spec, spec.numel * accumulator_dtype(spec).itemsize) for spec in _merged(base))
    return sum(round(size * method.state_factor(spec)) for spec, size in sizes)


def version_bytes(base: BaseModel, dtype: DType | None) -> int:
    """Bytes of the weights of one version; what it shares with others is not taken off."""
    return sum(output_spec(spec, dtype).nbytes for spec in base.specs.values())


def _merged(base: BaseModel) -> list[TensorSpec]:
    return [spec for specs in shard_layout(base) for spec in specs]
