"""Patterns for module names that come from an unknown sender.

peft matches a key of ``rank_pattern`` as ``re.match(rf"(.*\\.)?({key})$", module)``. A stranger's pattern can keep a
backtracking engine busy for years, so keys are admitted only from a part of the syntax where that cannot happen:
literal names, dots, classes, anchors, at most two repeats or options, and at most one choice of alternatives.
"""

from __future__ import annotations

import re

_MAX_LENGTH = 512
_MAX_REPEATS = 2
_LITERAL = re.compile(r"\^?[\w.-]+", re.ASCII)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_REPEAT = re.compile(r"[*+?{]")
_SET_OPERATION = re.compile(r"\[\^?\[|--|&&|~~|\|\|")
_REPEATED_GROUP = re.compile(r"\)[*+?{]")


class UnsafePattern(ValueError):
    """The pattern is not valid, or not in the part of the syntax that is admitted."""


class ModulePattern:
    """One key of a pattern table. ``matches`` takes time of low polynomial degree in the module's name."""

    __slots__ = ("_compiled", "literal")

    def __init__(self, key: str) -> None:
        """Raises UnsafePattern when the key is not admitted."""
        if not key or len(key) > _MAX_LENGTH:
            raise UnsafePattern(f"has {len(key)} characters, 1 to {_MAX_LENGTH} are admitted")
        self.literal = _LITERAL.fullmatch(key) is not None
        if not self.literal:
            _check_admitted(key)
        try:
            # peft's own spelling, so that the same modules match
            self._compiled = re.compile(rf"(.*\.)?({key})$")
        except (re.error, OverflowError, RecursionError) as error:
            raise UnsafePattern(f"is not a valid pattern: {error}") from error

    def matches(self, module: str) -> bool:
        return self._compiled.match(module) is not None


def _check_admitted(key: str) -> None:
    if any(found.group(1).isdigit() for found in _ESCAPED.finditer(key)):
        raise UnsafePattern("back references are not admitted")
    bare = _ESCAPED.sub("x", key)
    if _SET_OPERATION.search(bare):
        raise UnsafePattern("nested classes and class operations are not admitted")
    plain_groups = bare.replace("(?:", "(")
    if "(?" in plain_groups:
        raise UnsafePattern("look-arounds, named groups and flags are not admitted")
    # Two choices in a row multiply their ways to match, and so does a repeated group; one of them is harmless.
    if plain_groups.count("(") > 1 or (plain_groups.count("(") and _outside_choice(plain_groups)):
        raise UnsafePattern("more than one group is not admitted")
    if _REPEATED_GROUP.search(plain_groups):
        raise UnsafePattern("a repeated group is not admitted")
    if len(_REPEAT.findall(plain_groups)) > _MAX_REPEATS:
        raise UnsafePattern(f"more than {_MAX_REPEATS} repeats are not admitted")


def _outside_choice(key: str) -> bool:
    """Whether alternatives are also offered outside of the one group."""
    before, _, rest = key.partition("(")
    return "|" in before or "|" in rest.rpartition(")")[2]
