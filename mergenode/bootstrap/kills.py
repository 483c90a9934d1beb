"""What a node says at its start about being killed: before, or soon."""

from __future__ import annotations

from mergenode.adapters.container_memory import memory_limit
from mergenode.adapters.store.lock import read_lock
from mergenode.ports.observer import Observer
from mergenode.settings import Settings

_MIB = 1 << 20


def warn_of_kills(settings: Settings, observer: Observer) -> None:
    """Tell of earlier runs that were killed, and of a container that allows less memory than the settings promise.

    Both are warnings: a node may well live below what it is allowed to use. The state is locked by the caller.
    """
    owner = read_lock(settings.node.state)
    wanted = settings.engine.memory_limit + (settings.task.memory_limit if settings.task.entrypoint else 0)
    limit = memory_limit()
    if owner is not None and owner.killed:
        times = "was" if owner.killed == 1 else f"and {owner.killed - 1} more in a row were"
        observer.message(
            "warning",
            f"the run before this one {times} killed; what was finished is kept, the rest is done again",
            hint="If it was for want of memory (exit code 137, OOMKilled), give the container more, "
            "or set engine.memory_limit lower.",
            killed=owner.killed,
        )
    if limit is not None and limit < wanted:
        names = "engine.memory_limit" + (" and task.memory_limit" if settings.task.entrypoint else "")
        observer.message(
            "warning",
            f"the system allows {limit // _MIB}MiB of memory, less than {names} ({wanted // _MIB}MiB): "
            "it may kill the node in a fold",
            hint=f"Set the limit of the container above {wanted // _MIB}MiB, or engine.memory_limit below the limit.",
        )
