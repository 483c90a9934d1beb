"""What is said where a contribution cannot be read again, though the merge holds it: whose files help, and where."""

from __future__ import annotations

from collections.abc import Sequence

from mergenode.errors import RejectedError, RejectReason
from mergenode.ledger.changes import Change
from mergenode.ledger.restatement import Impossible, Replay, Subtract
from mergenode.ports.ledger_store import LedgerReader
from mergenode.types import Candidate

_OF_SETTINGS = (RejectReason.TOO_LARGE, RejectReason.HEADER_TOO_LARGE, RejectReason.TOO_MANY_TENSORS)
"""Refusals that other files would not mend: what was folded once is beyond a limit that was lowered since."""

_NAMED = 3


def impossible(way: Impossible, change: Change) -> RejectedError:
    """GONE: files that the change has to read are not where they are looked for."""
    first, more = way.missing[0], len(way.missing) - 1
    others = f" and {more} more" if more else ""
    do = "subtracted" if way.subtractable else "folded again, because this method cannot subtract"
    places = _places([(each.name, each.location) for each in way.missing])
    if way.subtractable:
        hint = f"Bring back the files of {places}, {_elsewhere(change)}."
    else:
        hint = f"Bring back the files of {places}. With `snapshots` in the settings later replays need fewer of them."
    return RejectedError(
        RejectReason.GONE,
        f"{first.name!r}{others} would have to be {do}, and is no longer at {first.location}",
        hint=hint,
    )


def unreadable(error: RejectedError, way: Subtract | Replay, change: Change, ledger: LedgerReader) -> RejectedError:
    """The same refusal, with what helps here: its own hint is for the owner of a new contribution.

    What the merge holds was accepted once, so the files that were folded then are what is wanted.
    """
    if error.reason in _OF_SETTINGS:
        return error
    if isinstance(way, Subtract):
        places = _places([(each.name, _recorded(each, ledger)) for each in way.removed])
        hint = f"Bring back the original files of {places}, side-cars included, {_elsewhere(change)}."
    elif len(way.folded) == 1:
        places = _places([(each.name, _recorded(each, ledger)) for each in way.folded])
        hint = f"It is folded again: bring back the original files of {places}, side-cars included."
    else:
        hint = (
            "What stays is folded again: bring back the original files, side-cars included, to where they were folded "
            "from; `mergenode show NAME` tells the place."
        )
    return RejectedError(error.reason, error.message, hint=hint)


def _places(missing: Sequence[tuple[str, str]]) -> str:
    named = ", ".join(f"{name!r} to {place}" for name, place in missing[:_NAMED])
    return named + (f" and those of {len(missing) - _NAMED} more" if len(missing) > _NAMED else "")


def _elsewhere(change: Change) -> str:
    """``--from`` names the place of the one contribution that is named with it."""
    if change.rollback_to is None and len(change.contents) == 1:
        return "or name the place where they are now with --from"
    return "or retract each by itself and name the place where its files are now with --from"


def _recorded(candidate: Candidate, ledger: LedgerReader) -> str:
    """Where it was folded from, wherever it was looked for now."""
    member = ledger.by_content(candidate.content) if candidate.content is not None else None
    return candidate.location if member is None else member.location
