"""What a selection made of one content, for whoever waits for it: chosen, or in the pool and left out, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mergenode.ledger.records import Selected
from mergenode.types import Digest

CHOSEN = "chosen"
UNLISTED = "unlisted"
"""Why of a content that was in the pool and is too far from being chosen for the fact to tell about it."""

WHY = {
    CHOSEN: "has weight",
    "outdone": "would lower the loss, others lower it more",
    "useless": "would not lower the loss",
    "crumb": "its share is below selector.floor",
    "not_read": "cannot be the best, by its sketch",
    "refused": "its score is no number",
}
"""What the reason codes of a selection mean."""

HINT = (
    "While it stays in the pool it is scored again whenever the pool changes; `mergenode pool rank` on the node shows "
    "how all did. Train it on what the objective of the node measures."
)
"""What to do about a contribution that was not chosen."""

_DIGITS = 10
"""Of a digest in ``Selected.others``: two of ten thousand contents are alike in them with a chance of 1 in 20,000."""


@dataclass(frozen=True, slots=True)
class Considered:
    """``why``: a code of ``WHY``, or ``UNLISTED``. ``score``: as in ``Selected.contents``, None where there is none."""

    why: str
    score: float | None = None

    @property
    def left_out(self) -> bool:
        return self.why != CHOSEN


def considered(selected: Selected, content: Digest) -> Considered | None:
    """What this selection made of this content; None: it was not in its pool."""
    for entry in selected.contents:
        if entry["content"] == content:
            return Considered(str(entry["why"]), entry.get("score"))
    mark, others = _mark(content), selected.others
    places = range(0, len(others), _DIGITS)
    return Considered(UNLISTED) if any(others[at : at + _DIGITS] == mark for at in places) else None


def marks(contents: Iterable[Digest]) -> str:
    """The value of ``Selected.others`` for contents that the fact does not tell about otherwise."""
    return "".join(sorted(map(_mark, contents)))


def left_out_message(selected: Selected, found: Considered) -> str:
    """In one sentence: in which pool it was, and how it did there, in the words of ``mergenode pool rank``."""
    score = "" if found.score is None else f", score {found.score + 0.0:.4g}"  # no minus before zero
    why = WHY.get(found.why, found.why)
    if found.why == UNLISTED:
        why = f"not among the {len(selected.contents) - len(selected.target)} best of those without weight"
    return (
        f"it was in the pool of {selected.size} at the selection of {selected.time} and has no weight in it: "
        f"{why}{score}"
    )


def _mark(content: Digest) -> str:
    return content[-_DIGITS:].rjust(_DIGITS, "-")
