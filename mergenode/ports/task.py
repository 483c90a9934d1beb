"""The task plug-in: what only the user knows of a model, as a class of a few optional methods.

A plug-in imports nothing of mergenode and inherits from nothing; its methods are looked up by name. It runs in a
process of its own, so that what it does wrong stays there (``adapters/tasks``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

GRAMS = "side-cars: gram"
FISHERS = "side-cars: fisher"
SCALE_EVALUATE = "method: scale: evaluate"
FRANK_WOLFE = "selector: frank_wolfe"
EVALUATION_GATE = "gates: evaluation"
FRANK_WOLFE_SIGN_GATE = "gates: frank_wolfe_sign"
WEIGHT_FIT = "weight: fit"
PROTECT = "protect"
MIXER_TRAINING = "mixer: dimat: training"
MIXER_MATCHING = "mixer: dimat: matching, BatchNorm"
MIXER_GUARD = "mixer: dimat: guard by losses"
MIXER_SCORES = "mixer: dimat: scores of rounds"
VERSION_SCORES = "task: evaluate"
REFINEMENT = "mergenode refine"

_OBJECTIVE = ("build_model", "calibration_batches", "loss")

FEATURES: Mapping[str, tuple[str, ...]] = {
    GRAMS: ("build_model", "calibration_batches"),
    FISHERS: _OBJECTIVE,
    SCALE_EVALUATE: ("build_model", "evaluate"),
    FRANK_WOLFE: _OBJECTIVE,
    EVALUATION_GATE: ("build_model", "evaluate"),
    FRANK_WOLFE_SIGN_GATE: _OBJECTIVE,
    WEIGHT_FIT: ("build_model", "evaluate"),
    PROTECT: _OBJECTIVE,
    MIXER_TRAINING: ("build_model", "train"),
    MIXER_MATCHING: ("build_model", "calibration_batches"),
    MIXER_GUARD: _OBJECTIVE,
    MIXER_SCORES: ("build_model", "evaluate"),
    VERSION_SCORES: ("build_model", "evaluate"),
    REFINEMENT: ("build_model", "probes", "outputs", "head"),
}
"""Every feature that asks a plug-in, and the methods without which it cannot work. Named as in the settings."""

METHODS: Mapping[str, tuple[str, ...]] = {
    method: tuple(feature for feature, needs in FEATURES.items() if method in needs)
    for method in ("build_model", "calibration_batches", "loss", "train", "evaluate", "probes", "outputs", "head")
}
"""Every method that a plug-in may have, and the features that need it."""

MOST_SAMPLES = 10_000
"""Calibration batches that are told apart where the loss of each is asked for."""

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

    def probes(self) -> Iterable[Any]:
        """Batches of made-up inputs, the same ones every time: a few thousand examples, nobody's data."""
        ...

    def outputs(self, model: Any, batch: Any) -> Any:
        """What a head reads: a tensor (examples, width) that can be differentiated."""
        ...

    def head(self, contribution: str) -> Any:
        """The head of a contribution, by its name: a tensor (classes, width); None: it takes no part."""
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
