"""Whether two states can be combined, and what that takes, from their ledgers and a look at where files should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mergenode.errors import FatalError, UsageError
from mergenode.ledger.combination import Combination, Inseparable, Side, first_difference, plan_combination
from mergenode.ledger.records import Admitted
from mergenode.ledger.restatement import as_candidate
from mergenode.methods import build_method
from mergenode.methods.contract import Method
from mergenode.types import Candidate

_NAMED = 5
_FOLD_INSTEAD = "Fold the contributions of one into the other: copy them to its registry, or `mergenode ingest PATH`."


def plan_of(states: tuple[Path, Path], sides: tuple[Side, Side]) -> tuple[Method, Combination, tuple[Candidate, ...]]:
    """The method of both states, the decision, and what leaves one of them, each where its files are.

    Raises:
        UsageError: the two do not belong together, cannot be combined or hold nothing.
        FatalError: what both hold cannot be told apart any more; the message names it.
    """
    method = _common_method(states, sides)
    plan = plan_combination(*sides, retractable=method.retractable, idempotent=method.idempotent)
    if isinstance(plan, Inseparable):
        raise _inseparable(plan, method)
    return method, plan, _at_hand(plan)


def _common_method(states: tuple[Path, Path], sides: tuple[Side, Side]) -> Method:
    """The method of both. Raises UsageError when the two do not belong together or cannot be combined."""
    difference = first_difference(sides[0].origin, sides[1].origin)
    if difference is not None:
        raise UsageError(
            f"{states[0]} and {states[1]} cannot be combined: {difference}",
            hint=_FOLD_INSTEAD,
        )
    method = build_method(sides[0].origin.method, sides[0].origin.options)
    if not method.combinable:
        raise UsageError(
            f"merges of {method.name} cannot be combined: what it keeps of a contribution depends on those before it",
            hint=_FOLD_INSTEAD,
        )
    if not (sides[0].members or sides[1].members):
        raise UsageError("neither state holds a contribution", hint="Let one of the nodes fold something first.")
    return method


def _inseparable(plan: Inseparable, method: Method) -> FatalError:
    why = " with other weights or profiles" if plan.uneven else ""
    return FatalError(
        f"both states hold {_names(plan.shared)}{why}, and {method.name} cannot take a contribution out",
        hint="Run `mergenode retract NAME` on one of the nodes for each of them, then combine again.",
    )


def _names(members: Sequence[Admitted | Candidate]) -> str:
    names = ", ".join(repr(member.name) for member in members[:_NAMED])
    return names if len(members) <= _NAMED else f"{names} and {len(members) - _NAMED} more"


def _at_hand(plan: Combination) -> tuple[Candidate, ...]:
    """What leaves one side, each where its files are: as the ledger of that side says, or the other one.

    Raises FatalError when files are gone; the message names them.
    """
    if plan.reduced is None:
        return ()
    elsewhere = plan.sides[1 - plan.reduced].by_content()
    found: list[Candidate] = []
    missing: list[Candidate] = []
    for member in plan.leaving:
        places = [member.location, elsewhere[member.content].location]
        place = next((place for place in places if Path(place).exists()), None)
        candidate = as_candidate(member)
        (missing if place is None else found).append(replace(candidate, location=place or member.location))
    if missing:
        raise FatalError(
            f"both states hold {_names(missing)}, and the files to take {'it' if len(missing) == 1 else 'them'} out of "
            f"one are gone; the first was at {missing[0].location}",
            hint="Bring the files back, or run `mergenode retract NAME` on one of the nodes, then combine again.",
        )
    return tuple(found)
