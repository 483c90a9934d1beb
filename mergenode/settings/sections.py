"""The small sections: the node, HTTP, the engine, validation, logs, shutdown."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import field_validator, model_validator

from mergenode.settings.quantities import PLAIN_NAME, Address, AutoOrCount, Size, resolve_path, split_address
from mergenode.settings.section import Section, setting


class NodeSettings(Section):
    """Who this node is and where it keeps its private files."""

    name: str = setting(
        "mergenode",
        "Name of the node on the status page and in the lock file; never in what it publishes.",
        unit="name of letters, digits, '.', '_' and '-', at most 63",
        why="a single node needs no distinction",
        pattern=PLAIN_NAME,
    )
    state: Path = setting(
        "./state",
        "Directory of the ledger, the statistics and the lock; private, one node each.",
        unit="path",
        why="it lies beside the settings file and is found again after a restart",
    )

    _state = field_validator("state", mode="plain")(resolve_path)


class SnapshotSettings(Section):
    """Which earlier statistics are kept, so that taking a contribution out need not fold everything else again."""

    every: int = setting(
        0,
        "Keep the statistics of every generation that is a multiple of this; 0 keeps none.",
        unit="contributions",
        why="each takes as much disk as the statistics do, and methods that can subtract need none",
        ge=0,
    )
    keep: int = setting(
        3,
        "How many snapshots stay on disk; the oldest go first.",
        unit="snapshots",
        why="disk use then has a bound that does not grow with the number of contributions",
        ge=1,
    )


class HttpSettings(Section):
    """Metrics, probes, status page."""

    listen: Address = setting(
        "127.0.0.1:9464",
        "Address of /metrics, /livez, /readyz, /startupz, /api/v1 and the page; null switches it off.",
        unit="host:port",
        why="nothing is shown to other machines unasked, and 9464 is the usual exporter port",
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_unclear(cls, value: object) -> object:
        if value is None:
            raise ValueError("a section: {listen: null} switches HTTP off, {} takes the default address")
        return value

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port, or None when switched off."""
        return None if self.listen is None else split_address(self.listen)


class EngineSettings(Section):
    """How folds are executed, and what they may use."""

    name: Literal["local"] = setting("local", "Which engine folds.", unit="name", why="one machine needs no cluster")
    threads: AutoOrCount = setting(
        "auto",
        "Compute threads; auto takes the processors this process may use. Results do not depend on it.",
        unit="threads",
        why="an idle processor helps nobody",
    )
    memory_limit: Size = setting(
        "2GiB",
        "Most memory a fold may use: buffers adapt to it, what cannot fit is refused before it starts.",
        unit="bytes, or text such as 2GiB",
        why="it holds ten times the largest matrix of a 7 B model's layers",
        ge=16 << 20,
    )
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto",
        "Where decompositions run; auto takes a GPU when there is one.",
        unit="device name",
        why="results agree within stated tolerance and a GPU is faster",
    )


class ValidationSettings(Section):
    """What a contribution may be. Beyond these bounds it is rejected with the reason."""

    max_relative_norm: float | None = setting(
        0.95,
        "Largest norm of a task vector relative to the base's matrices; null accepts any.",
        unit="ratio of Frobenius norms",
        why="unrelated models of one shape lie near 1.4 and fine-tunes well below 0.5",
        gt=0,
    )
    max_tensors: int = setting(
        200_000,
        "Most tensors in one checkpoint.",
        unit="tensors",
        why="the largest mixtures of experts stay below it and a forged header cannot fill memory",
        ge=1,
    )
    max_header: Size = setting(
        "100MiB",
        "Largest safetensors header that is parsed.",
        unit="bytes, or text such as 100MiB",
        why="it is the limit of the safetensors library itself",
        ge=16,
    )
    max_checkpoint: Size | None = setting(
        None,
        "Largest checkpoint that is read; null accepts any size that matches the base.",
        unit="bytes, or text such as 200GiB",
        why="shapes must match the base, which bounds the size already",
        ge=1,
    )


class LogSettings(Section):
    """What the node writes to standard error."""

    format: Literal["console", "json"] = setting(
        "console",
        "One readable line or one JSON object per fact.",
        unit="format name",
        why="a person reads the first run",
    )
    level: Literal["debug", "info", "warning", "error"] = setting(
        "info",
        "Least severity that is written.",
        unit="level name",
        why="one line per fact is few enough to keep",
    )


class ShutdownSettings(Section):
    """How the node ends."""

    drain_seconds: float = setting(
        100.0,
        "How long a first SIGTERM lets the work at hand finish before it is cut off at a durable point.",
        unit="seconds",
        why="it fits into a termination grace period of 120 seconds with time to spare",
        ge=0,
        le=86_400,
    )
