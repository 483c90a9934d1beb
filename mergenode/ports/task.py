"""The task plug-in: what only the user knows of a model, as a class of a few optional methods.

A plug-in imports nothing of mergenode and inherits from nothing; its methods are looked up by name. It runs in a
process of its own, so that what it does wrong stays there (``adapters/tasks``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

METHODS: Mapping[str, tuple[str, ...]] = {
    "build_model": ("all others need it",),
    "calibration_batches": (
        "side-cars (`mergenode sidecar`): methods fisher and regmean",
        "mixer dimat: matching of activations, BatchNorm after mixing",
    ),
    "loss": ("Fisher side-cars: method fisher", "mixer dimat: the guard"),
    "train": ("training between exchanges with peers",),
    "evaluate": ("scores of versions: `scale: evaluate`", "mixer dimat: scores of every round"),
}
"""Every method that a plug-in may have, and what it is for."""

DEFAULT_MEMORY_LIMIT = 4 << 30
DEFAULT_TIMEOUT = 600.0


class Task(Protocol):
    """What a plug-in may offer. Every method is optional; the class is made without arguments.

    Models are ``torch.nn.Module``, batches whatever the plug-in likes (see ``loss``).
    """

    def build_model(self) -> Any:
        """A module with the names and shapes of the base in its ``state_dict``; the weights are filled in afterwards.

        What is not part of the checkpoints (the head of a task, say) belongs to the plug-in, not into this module.
        """
        ...

    def calibration_batches(self) -> Iterable[Any]:
        """Inputs for the model: a tensor, or a tuple, list or mapping of tensors with the examples first.

        Without ``loss`` a batch is handed to the model: a mapping as keywords, a tuple as arguments.
        """
        ...

    def loss(self, model: Any, batch: Any) -> Any:
        """A scalar tensor that can be differentiated, mean over the examples of the batch."""
        ...

    def train(self, model: Any, round: int) -> Mapping[str, float]:
        """Train the model in place, and return what is worth a number. It comes in training mode.

        ``round``: the epoch that the neighbours agree upon; it grows, and may skip numbers.
        """
        ...

    def evaluate(self, model: Any) -> Mapping[str, float]:
        """Finite scores by name; more is better."""
        ...


class TaskOptions(Protocol):
    """How a plug-in is found and what it may use: the section ``task`` of the settings, or a ``TaskProgram``."""

    @property
    def entrypoint(self) -> str | None:
        """``package.module:Class``. None: there is no plug-in."""
        ...

    @property
    def path(self) -> Path | None:
        """Directory that is searched for the module before all others."""
        ...

    @property
    def memory_limit(self) -> int:
        """Bytes of private memory that the worker process may allocate."""
        ...

    @property
    def timeout(self) -> float:
        """Seconds that one call may take."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskProgram:
    """``TaskOptions`` that come from a command line instead of a settings file."""

    entrypoint: str | None
    path: Path | None = None
    memory_limit: int = DEFAULT_MEMORY_LIMIT
    timeout: float = DEFAULT_TIMEOUT
