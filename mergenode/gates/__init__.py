"""Gates: checks that a contribution must pass, one file each. Adding one is a file, a line in GATES, a test file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from inspect import signature as parameters_of

from mergenode.errors import UsageError
from mergenode.gates.alignment import alignment
from mergenode.gates.contract import Action, Gate
from mergenode.gates.evaluation import evaluation
from mergenode.gates.finite import finite
from mergenode.gates.frank_wolfe_sign import frank_wolfe_sign
from mergenode.gates.frozen import frozen
from mergenode.gates.norm import norm
from mergenode.gates.sign_conflict import sign_conflict
from mergenode.gates.signature import signature
from mergenode.gates.top_share import top_share

GATES: Mapping[str, Callable[..., Gate]] = {
    "signature": signature,
    "finite": finite,
    "frozen": frozen,
    "norm": norm,
    "alignment": alignment,
    "sign_conflict": sign_conflict,
    "top_share": top_share,
    "frank_wolfe_sign": frank_wolfe_sign,
    "evaluation": evaluation,
}
"""Every gate by the name that users write, the cheaper ones first; the keyword arguments of the factory are its
options."""


def build_gate(name: str, options: Mapping[str, object], action: Action = Action.OBSERVE) -> Gate:
    """The gate of this name with these options; what is left out takes the factory's default.

    Raises:
        UsageError: no such gate or option (with the nearest valid name).
        ValueError: a value that the option does not take.
    """
    factory = GATES.get(name)
    if factory is None:
        raise UsageError(f"there is no gate {name!r}", hint=_nearest(name, "gate", list(GATES)))
    valid = list(parameters_of(factory).parameters)
    for option in options:
        if option not in valid:
            raise UsageError(f"gate {name!r} has no option {option!r}", hint=_nearest(option, "option", valid))
    return replace(factory(**options), action=action)


def _nearest(word: str, what: str, valid: list[str]) -> str:
    close = get_close_matches(word, valid, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"The {what}s are: {', '.join(valid)}." if valid else f"It has no {what}s."
