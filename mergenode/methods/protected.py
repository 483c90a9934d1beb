"""The terms of what is protected, as options of the method: they decide the bytes of a merge like all others.

Vetoes are cast before a method sees a contribution (``maths.veto``), so a method knows nothing of them. Their terms
stand among its options all the same: there every part of mergenode finds them that asks whether two merges are of one
kind (the first fact, lineages, plans of folds, parts of other nodes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mergenode.methods.contract import Method

PROTECT = "protect"
"""The name of the option."""


def protected(method: Method, terms: Sequence[Mapping[str, Any]]) -> Method:
    """The same method with these terms (JSON values), in an order of their own; as it is when there are none."""
    if not terms:
        return method
    ordered = sorted((dict(each) for each in terms), key=lambda each: repr(sorted(each.items())))
    return replace(method, options={**method.options, PROTECT: ordered})
