"""One bad checkpoint and its documented outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mergenode.errors import RejectReason, TransientReason

Stage = Literal["open", "values", "listing"]
Build = Callable[[Path, Path], Path]


@dataclass(frozen=True)
class BadCheckpoint:
    """``build(registry, base)`` writes the entry ``name`` into ``registry`` and returns its path."""

    name: str
    reason: RejectReason | TransientReason
    """What opening (stage ``open``), folding (``values``) or listing (``listing``) it ends in."""
    stage: Stage
    build: Build
    names: tuple[str, ...] = ()
    """What the message must name: file and tensor at fault."""
    settles: bool = False
    """It looks like an upload in progress: a registry reports it as unsettled instead of offering it."""


class Cases(list[BadCheckpoint]):
    """Collects builders: ``@cases.bad(reason, "file", "tensor")`` above ``def entry_name(place, base) -> Path``.

    The function gets the path of the entry it has to create (not there yet) and the base's directory; it may return
    another path inside the same registry.
    """

    def bad(
        self,
        reason: RejectReason | TransientReason,
        *names: str,
        stage: Stage = "open",
        settles: bool = False,
    ) -> Callable[[Callable[[Path, Path], Path | None]], Callable[[Path, Path], Path | None]]:
        def add(write: Callable[[Path, Path], Path | None]) -> Callable[[Path, Path], Path | None]:
            name = write.__name__

            def build(registry: Path, base: Path) -> Path:
                place = registry / name
                return write(place, base) or place

            self.append(BadCheckpoint(name, reason, stage, build, names, settles))
            return write

        return add
