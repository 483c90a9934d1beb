"""What teams pushed: complete checkpoints below ``state/pushes``, put there by the intake, listed like any directory.

The files of folded pushes stay: retracting a contribution reads it again, and a replay reads all of them. So the
directory grows by the size of what is folded; adapters are small, full checkpoints are not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.durable import disk_errors
from mergenode.adapters.registries.folder import FolderRegistry
from mergenode.ports.clock import Clock
from mergenode.tracing.ids import PUSHES as TRACED_PUSHES
from mergenode.types import Candidate, Listing

REGISTRY = TRACED_PUSHES
PUSHES = "pushes"


def pushes_directory(state: Path) -> Path:
    """Where the pushed checkpoints of a state directory lie."""
    return state / PUSHES


def _nothing(_candidate: Candidate) -> None:
    """Without an intake nobody removes what was rejected."""


class PushesRegistry:
    """The pushed checkpoints of one state directory. Each appears by a rename with its commit marker: no waiting.

    Args:
        state: the node's state directory; ``pushes`` inside it is created.
        settled: told of every candidate of this registry whose outcome is durable; removes what was rejected.
        tidy: called before each listing.
    """

    def __init__(
        self, state: Path, *, clock: Clock, limits: Limits | None = None,
        settled: Callable[[Candidate], None] = _nothing, tidy: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        root = pushes_directory(state)
        with disk_errors(root):
            root.mkdir(parents=True, exist_ok=True)
        self._folder = FolderRegistry(root, REGISTRY, clock=clock, limits=limits)
        self._settled = settled
        self._tidy = tidy

    @property
    def name(self) -> str:
        return REGISTRY

    @property
    def root(self) -> Path:
        return self._folder.root

    def list(self) -> Listing:
        """Every push that is complete. Raises TransientError (REGISTRY_UNREACHABLE)."""
        self._tidy()
        return self._folder.list()

    def settled(self, candidate: Candidate) -> None:
        """Pass it on to the intake. Idempotence: nothing happens the second time."""
        if candidate.registry == REGISTRY:
            self._settled(candidate)

    def close(self) -> None:
        """Nothing is held open."""
        self._folder.close()
