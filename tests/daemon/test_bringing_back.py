"""What is said where a contribution of the merge cannot be read again."""

from __future__ import annotations

import pytest

from mergenode.daemon.bringing_back import impossible, unreadable
from mergenode.errors import RejectedError, RejectReason
from mergenode.ledger.changes import Change
from mergenode.ledger.restatement import Impossible, Replay, Subtract, as_candidate, found_elsewhere
from mergenode.types import Candidate, Head
from tests.support import facts
from tests.support.memory_ledger import MemoryLedger

ONE, TWO = facts.folded(1, location="/in/m1"), facts.folded(2, generation=2, count=2, location="/in/m2")
LEFT, STAYS = as_candidate(ONE), as_candidate(TWO)
BY_NAME = Change("", (ONE.content,))
FROM = "--from"


def ledger() -> MemoryLedger:
    made = MemoryLedger()
    made.append(facts.initialised(), facts.discovered(1), ONE, facts.discovered(2), TWO)
    return made


def many(count: int) -> tuple[Candidate, ...]:
    return tuple(as_candidate(facts.folded(n, location=f"/in/m{n}")) for n in range(1, count + 1))


def test_what_leaves_may_be_elsewhere() -> None:
    error = impossible(Impossible((LEFT,), subtractable=True), BY_NAME)
    assert error.reason is RejectReason.GONE and error.message.endswith("no longer at /in/m1")
    assert error.hint == "Bring back the files of 'm1' to /in/m1, or name the place where they are now with --from."


@pytest.mark.parametrize("change", [Change("", rollback_to=1), Change("", (ONE.content, TWO.content))])
def test_from_names_the_place_of_one_that_is_retracted(change: Change) -> None:
    hint = impossible(Impossible((LEFT,), subtractable=True), change).hint
    assert hint.startswith("Bring back the files of 'm1' to /in/m1, or retract each by itself")


def test_what_stays_has_to_come_back_to_its_place() -> None:
    hint = impossible(Impossible((STAYS,), subtractable=False), BY_NAME).hint
    assert hint.startswith("Bring back the files of 'm2' to /in/m2. ") and FROM not in hint


def test_of_many_some_are_named() -> None:
    hint = impossible(Impossible(many(5), subtractable=False), BY_NAME).hint
    assert "'m3' to /in/m3 and those of 2 more." in hint and "m4" not in hint


def test_the_original_is_wanted_where_it_was_folded_from() -> None:
    """Wherever it was looked for now."""
    found = found_elsewhere(LEFT, {ONE.content: "/elsewhere"})
    owners = RejectedError(RejectReason.NEEDS_SIDE_CAR, "m1: has none", hint="Let its owner write one.")
    error = unreadable(owners, Subtract(Head(), (found,)), BY_NAME, ledger())
    assert (error.reason, error.message) == (owners.reason, owners.message)
    assert error.hint.startswith("Bring back the original files of 'm1' to /in/m1, side-cars included, or name")


@pytest.mark.parametrize("folded", [(STAYS,), many(2)])
def test_a_replay_wants_what_stays(folded: tuple[Candidate, ...]) -> None:
    gone = RejectedError(RejectReason.GONE, "/in/m2: vanished")
    hint = unreadable(gone, Replay(Head(), folded), BY_NAME, ledger()).hint
    assert "bring back the original files" in hint and FROM not in hint
    assert ("'m2' to /in/m2" in hint) == (len(folded) == 1)


def test_limits_that_were_lowered_keep_their_hint() -> None:
    large = RejectedError(RejectReason.TOO_LARGE, "too large", hint="Raise validation.max_checkpoint.")
    assert unreadable(large, Subtract(Head(), (LEFT,)), BY_NAME, ledger()) is large
