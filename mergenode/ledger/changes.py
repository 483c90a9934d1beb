"""What the operator asked to be changed about the merge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mergenode.types import Digest

RELEASE, DROP = "release", "drop"
"""What can be asked for a content in quarantine."""


@dataclass(frozen=True, slots=True)
class Change:
    """One request: these ``contents`` are to leave, or everything that entered after version ``rollback_to``.

    ``forget``: the id of another node whose part is to count no more.

    ``quarantine``: RELEASE or DROP, of ``contents`` that are in quarantine; the merge stays as it is. ``who`` asks.

    ``places``: where the files of a content are now, when they are no longer where they were folded from.
    """

    id: str
    contents: tuple[Digest, ...] = ()
    rollback_to: int | None = None
    why: str = ""
    places: Mapping[Digest, str] = field(default_factory=dict)
    forget: str | None = None
    quarantine: str | None = None
    who: str = ""
