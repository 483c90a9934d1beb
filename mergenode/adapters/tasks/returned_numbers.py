"""What a plug-in returns as numbers by name, checked."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from torch import Tensor

from mergenode.adapters.tasks.failure import Failure

_MOST_SCORES = 1000
_NAME_CHARACTERS = 200


def numbers(returned: object, what: str) -> dict[str, float]:
    """The finite numbers by name that a plug-in returned. Raises Failure: ``invalid``."""
    if not isinstance(returned, Mapping) or not 0 < len(returned) <= _MOST_SCORES:
        raise Failure("invalid", f"{what} returned {_shown(returned)}", "It has to return numbers by name.")
    scores = {}
    for name, value in returned.items():
        if not isinstance(name, str) or not 0 < len(name) <= _NAME_CHARACTERS:
            raise Failure("invalid", f"{what} named a number {_shown(name)}", "Names are texts.")
        try:
            scores[name] = float(value.detach() if isinstance(value, Tensor) else value)
        except (TypeError, ValueError, RuntimeError) as error:
            said = f"{what} returned {_shown(value)} for {name!r}"
            raise Failure("invalid", said, "It has to be a number.") from error
        if not isfinite(scores[name]):
            raise Failure("invalid", f"{what} returned {scores[name]} for {name!r}", "Scores have to be finite.")
    return scores


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)} entries"
    return f"{type(value).__name__} {value!r:.80}"
