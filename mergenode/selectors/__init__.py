"""Which models of a pool are merged, and with which weight: pure decisions on a few numbers.

``frank_wolfe`` has one move, ``running`` the loop, ``soft`` the variant with several vertices, ``barycentric`` the
weights when the pool changes; ``shortlist`` says what has to be read, ``fitness_sharing`` who leaves a bounded pool.
They work on inner products of task vectors with a gradient; tensors never come here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from inspect import signature

from mergenode.errors import UsageError
from mergenode.selectors.contract import Selector
from mergenode.selectors.everything import everything
from mergenode.selectors.frank_wolfe import frank_wolfe

SELECTORS: Mapping[str, Callable[..., Selector]] = {
    "all": everything,
    "frank_wolfe": frank_wolfe,
}
"""Every selector by the name that users write; the keyword arguments of the factory are its options."""


def build_selector(name: str, options: Mapping[str, object]) -> Selector:
    """The selector of this name with these options; what is left out takes the factory's default.

    Raises:
        UsageError: no such selector or option (with the nearest valid name), or a value that the option does
        not take.
    """
    factory = SELECTORS.get(name)
    if factory is None:
        raise UsageError(f"there is no selector {name!r}", hint=_nearest(name, "selector", list(SELECTORS)))
    valid = list(signature(factory).parameters)
    for option in options:
        if option not in valid:
            raise UsageError(f"selector {name!r} has no option {option!r}", hint=_nearest(option, "option", valid))
    return factory(**options)


def _nearest(word: str, what: str, valid: list[str]) -> str:
    close = get_close_matches(word, valid, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"The {what}s are: {', '.join(valid)}." if valid else f"It has no {what}s."
