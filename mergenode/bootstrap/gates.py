"""From the section ``gates`` to gates."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

from mergenode.errors import UsageError
from mergenode.gates import build_gate
from mergenode.gates.contract import Action, Gate
from mergenode.settings.gates import GatesSettings


def gates_of(settings: GatesSettings) -> tuple[Gate, ...]:
    """The gates that are not off, in the order of the table, each with its action."""
    return tuple(build_gate(name, options, Action(action)) for name, action, options in settings.active())


def refuse_unmatched(gates: Iterable[Gate], names: Collection[str]) -> None:
    """Raises UsageError for a pattern that matches none of ``names``, all names of the base's tensors.

    Such a gate would compare nothing and let everything in, which nobody wants who switches it on.
    """
    for gate in gates:
        for pattern in gate.patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UsageError(
                    f"gates.{gate.name}.patterns: {pattern!r} matches no tensor of the base",
                    hint=f"Its tensors are called {_some(names)}; '*' stands for anything.",
                )


def _some(names: Collection[str]) -> str:
    first, last = min(names), max(names)
    return repr(first) if first == last else f"{first!r} ... {last!r}"
