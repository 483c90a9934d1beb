"""What the demo of peers found out, as values and as ``results.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mergenode.demo.peers.watching import Mixing

SCHEMA = "mergenode.demo-peers/1"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done to the nodes, from ``start`` to ``end`` (seconds since 1970)."""

    what: str
    start: float
    end: float


@dataclass(slots=True)
class PeersResults:
    """Filled while the story goes on. Accuracies in [0, 1].

    ``references``: by method, per round the accuracy after mixing, mean over nodes, all in one process and undisturbed.
    ``mixings``: of the real nodes. ``digests``: of the model that each node of the union published last.
    ``contribution_accuracies``: of what each of them folded itself; ``union_accuracy``: of the model of all.
    """

    references: dict[str, list[float]] = field(default_factory=dict)
    mixings: list[Mixing] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    cut_connections: int = 0
    digests: dict[str, str] = field(default_factory=dict)
    union_accuracy: float | None = None
    contribution_accuracies: list[float] = field(default_factory=list)
    exit_codes: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def last(self) -> list[Mixing]:
        """The newest round of every node, by name."""
        newest = {each.node: each for each in sorted(self.mixings, key=lambda each: each.when)}
        return [newest[name] for name in sorted(newest)]

    def write(self, path: Path) -> None:
        """Write ``results.json``. Not atomic: the directory belongs to the demo alone."""
        document = {"schema": SCHEMA, **asdict(self)}
        path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
