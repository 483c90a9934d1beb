"""From the section ``gates`` to gates."""

from __future__ import annotations

from mergenode.gates import build_gate
from mergenode.gates.contract import Action, Gate
from mergenode.settings.gates import GatesSettings


def gates_of(settings: GatesSettings) -> tuple[Gate, ...]:
    """The gates that are not off, in the order of the table, each with its action."""
    return tuple(build_gate(name, options, Action(action)) for name, action, options in settings.active())
