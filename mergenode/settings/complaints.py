"""From pydantic's list of errors to lines people can act on: file, line, setting, value, what is allowed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from mergenode.errors import UsageError
from mergenode.settings.document import Document, Where, dotted
from mergenode.settings.methods import METHOD_SECTIONS
from mergenode.settings.names import children, setting_names

_VALUE_SHOWN = 80

_ALLOWED: Mapping[str, str] = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "literal_error": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "string_pattern_mismatch": "a text that matches {pattern}",
    "tuple_type": "a list",
    "list_type": "a list",
    "model_type": "a section with settings of its own",
    "model_attributes_type": "a section with settings of its own",
    "dict_type": "a mapping such as {{name: value}}",
    "union_tag_invalid": "{expected_tags}",
}


def complain(document: Document, errors: Sequence[Mapping[str, Any]]) -> UsageError:
    """One UsageError whose message has one line per problem, in the order of the file.

    Args:
        document: What was read, for lines and values.
        errors: Pydantic's ``ValidationError.errors()``.
    """
    allowed: dict[tuple[int, str, str], dict[str, None]] = {}
    for error in errors:
        line, text, hint, one = _problem(document, error)
        allowed.setdefault((line, text, hint), {})[one] = None
    problems = sorted((line, text + " or ".join(several), hint) for (line, text, hint), several in allowed.items())
    return UsageError("\n".join(f"{document.name}:{line}: {text}" for line, text, _ in problems), hint=problems[0][2])


def _problem(document: Document, error: Mapping[str, Any]) -> tuple[int, str, str, str]:
    """Line, text and hint of one error; and what is allowed where the text ends in that."""
    where, method = _location(document, error)
    line, name, kind = document.line_of(where), dotted(where), str(error["type"])
    if kind == "extra_forbidden":
        siblings = children(where[:-1], method)
        return line, f"unknown setting {name!r}{_suggestion(where, siblings)}", _listed(where[:-1], siblings), ""
    if kind in ("missing", "union_tag_not_found"):
        return line, f"setting {name!r} is missing", "`mergenode config schema` describes every setting", ""
    if kind == "conflict":
        return line, str(error["msg"]), "", ""
    if not where:
        return line, "the file must hold settings by name, such as base: ./base", "", ""
    while not (found := _value_at(document.data, where))[0] and len(where) > 1:
        where = where[:-1]  # a registry written as its url alone
    shown = f"setting {dotted(where)!r} is {_shown(found[1])}" if found[0] else f"setting {dotted(where)!r}"
    return line, f"{shown}; allowed is ", "", _allowed(error)


def _location(document: Document, error: Mapping[str, Any]) -> tuple[Where, str | None]:
    """Where the setting stands in the file, and the method it belongs to when it is an option of one."""
    if error["type"] == "conflict":
        places: Sequence[Where] = error["ctx"]["where"]
        return next((where for where in places if where in document.lines), places[0]), None
    where: Where = tuple(error["loc"])
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return (*where, "name"), None
    if where[:1] == ("method",) and len(where) > 1 and where[1] in METHOD_SECTIONS:
        return ("method", *where[2:]), str(where[1])
    return where, None


def _allowed(error: Mapping[str, Any]) -> str:
    context = error.get("ctx", {})
    if error["type"] == "value_error":
        return str(context["error"])
    template = _ALLOWED.get(str(error["type"]))
    return str(error["msg"]) if template is None else template.format(**context)


def _suggestion(where: Where, siblings: Sequence[str]) -> str:
    key = str(where[-1])
    near = get_close_matches(key, siblings, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    if where[0] == "method":
        return ""  # an option of another method helps nobody
    elsewhere = {name.rpartition(".")[2]: name for name in reversed(setting_names())}
    near = get_close_matches(key, elsewhere, n=1, cutoff=0.8)
    return f"; did you mean {elsewhere[near[0]]!r}?" if near else ""


def _listed(parent: Where, siblings: Sequence[str]) -> str:
    place = f"settings of {dotted(parent)!r}" if parent else "top-level settings"
    return f"{place}: {', '.join(siblings)}"


def _value_at(data: object, where: Where) -> tuple[bool, object]:
    for step in where:
        match data, step:
            case dict(), _ if step in data:
                data = data[step]
            case list(), int() if step < len(data):
                data = data[step]
            case _:
                return False, None
    return True, data


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _VALUE_SHOWN else text[: _VALUE_SHOWN - 3] + "..."
