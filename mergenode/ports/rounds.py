"""What a round needs of the world: a place for its state and files, arithmetic on whole models, the task plug-in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mergenode.ledger.round_state import RoundState
from mergenode.mixers.defence import Geometry, Recipe
from mergenode.types import Digest


class RoundStore(Protocol):
    """The state of the round under way and the weights that it names, each one safetensors file with a plain name."""

    def load(self) -> RoundState | None:
        """None before the first round. Raises FatalError: it cannot be read."""
        ...

    def save(self, state: RoundState) -> None:
        """Durable on return, all or nothing. Raises TransientError."""
        ...

    def path(self, name: str) -> Path: ...

    def staging(self, name: str) -> Path:
        """Where a file is written before ``install`` gives it its name. What lay there is of no use to anybody."""
        ...

    def install(self, name: str) -> None:
        """Give the staged file its name, over an older one. Its content must be synced; the name is on return."""
        ...

    def keep(self, source: Path, name: str) -> None:
        """A durable copy of somebody else's immutable file under ``name``, without copying where that is possible."""
        ...

    def tidy(self, names: Sequence[str]) -> None:
        """Remove every file but these."""
        ...


@dataclass(frozen=True, slots=True)
class Inspected:
    """What one look at a model says: its norm, over the floating tensors, or why it must not be used."""

    norm: float
    code: str = ""
    message: str = ""


class Models(Protocol):
    """Arithmetic on models in files, a slice at a time. Files that are written are synced on return, their names not.

    Methods raise TransientError when a disk fails or a file of our own changed, and RejectedError as ``open_weights``
    for our own files.
    """

    def unite(self, checkpoint: Path, target: Path) -> None:
        """The weights of a full checkpoint in one file."""
        ...

    def inspect(self, own: Path, other: Path) -> Inspected:
        """Whether a model has the tensors of ``own`` and finite numbers. Does not raise for what is wrong with it."""
        ...

    def measure(self, own: Path, start: Path, others: Sequence[Path]) -> Geometry:
        """See ``Geometry``; over all floating tensors."""
        ...

    def mix(self, own: Path, others: Sequence[Path], recipe: Recipe, target: Path) -> None:
        """Write what the recipe gives, tensors in the order of ``own``; what is not floating point stays its own.

        Idempotence: same input, same bytes.
        """
        ...

    def content(self, model: Path) -> Digest:
        """Its content digest."""
        ...

    def export(self, model: Path, staging: str) -> Mapping[str, Digest]:
        """Write the weight file of a version; digests by tensor."""
        ...


@dataclass(frozen=True, slots=True)
class Trained:
    """What training says of itself: finite numbers by name."""

    metrics: Mapping[str, float] = field(default_factory=dict)


class Trainer(Protocol):
    """The task plug-in in a round. Paths are those of full models in one file.

    Methods raise TransientError(TASK_FAILED) when the plug-in fails, FatalError when it cannot be used at all, and
    Stopped. What they write is synced on return; after an error there is nothing at ``target`` that counts.
    """

    def methods(self) -> frozenset[str]:
        """Names of what the plug-in has."""
        ...

    def train(self, model: Path, round: int, target: Path) -> Trained:
        """Train ``model`` and write the result. A result that is not finite or has grown beyond reason is a failure."""
        ...

    def align(
        self, own: Path, others: Mapping[str, Path], targets: Mapping[str, Path], matching: str
    ) -> Mapping[str, str]:
        """Write each of ``others`` with its units in the order of those of ``own``, by name of the node.

        Returns the nodes whose model cannot be matched, and why; for them nothing is written.
        """
        ...

    def recalibrate(self, model: Path, target: Path) -> int:
        """Write ``model`` with BatchNorm statistics estimated anew; number of batches, 0: it has no such layers."""
        ...

    def losses(self, models: Sequence[Path]) -> Sequence[float]:
        """Mean loss over the calibration batches of each model. May be infinite or NaN."""
        ...

    def evaluate(self, checkpoint_dir: Path) -> Mapping[str, float]:
        """Scores of a model: finite numbers by name; more is better."""
        ...
