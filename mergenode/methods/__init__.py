"""Merge methods: pure functions, one file each. Adding one is a file, a line in METHODS and a test file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from inspect import signature

from mergenode.errors import UsageError
from mergenode.methods.aswudi import aswudi
from mergenode.methods.average import average
from mergenode.methods.contract import Method
from mergenode.methods.dare import dare
from mergenode.methods.fisher import fisher
from mergenode.methods.iso import iso
from mergenode.methods.magmax import magmax
from mergenode.methods.opcm import opcm
from mergenode.methods.protected import PROTECT, protected
from mergenode.methods.regmean import regmean
from mergenode.methods.swudi import swudi
from mergenode.methods.task_arithmetic import task_arithmetic
from mergenode.methods.ties import ties
from mergenode.methods.tsvm import tsvm
from mergenode.methods.widen import widen

METHODS: Mapping[str, Callable[..., Method]] = {
    "opcm": opcm,
    "task_arithmetic": task_arithmetic,
    "average": average,
    "iso": iso,
    "tsvm": tsvm,
    "swudi": swudi,
    "aswudi": aswudi,
    "ties": ties,
    "dare": dare,
    "magmax": magmax,
    "widen": widen,
    "fisher": fisher,
    "regmean": regmean,
}
"""Every method by the name that users write; the keyword arguments of the factory are its options."""


def build_method(name: str, options: Mapping[str, object]) -> Method:
    """The method of this name with these options; what is left out takes the factory's default.

    What ``protected`` added to the options of a method is kept.

    Raises:
        UsageError: no such method or option (with the nearest valid name), or a value that the option does
        not take.
    """
    factory = METHODS.get(name)
    if factory is None:
        raise UsageError(f"there is no method {name!r}", hint=_nearest(name, "method", list(METHODS)))
    valid = list(signature(factory).parameters)
    terms = options.get(PROTECT)
    if isinstance(terms, list | tuple):
        return protected(build_method(name, {key: value for key, value in options.items() if key != PROTECT}), terms)
    for option in options:
        if option not in valid:
            raise UsageError(f"method {name!r} has no option {option!r}", hint=_nearest(option, "option", valid))
    return factory(**options)


def _nearest(word: str, what: str, valid: list[str]) -> str:
    close = get_close_matches(word, valid, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"The {what}s are: {', '.join(valid)}."
