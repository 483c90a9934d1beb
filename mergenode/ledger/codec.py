"""Facts as text: one canonical JSON object per fact, every field written, its kind included.

Compatibility. A field's type and meaning never change. A new field gets a default, so that bodies written
before it still decode; a new kind gets a new name. Reading is strict in the other direction: an unknown kind
or field means that a newer mergenode wrote it, and a node that does not understand its own history must not
go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, NewType, Union, get_args, get_origin, get_type_hints

from mergenode.errors import FatalError
from mergenode.ledger.canonical import canonical, parse
from mergenode.ledger.records import KINDS, Fact

_NEWER = "if a newer mergenode wrote this ledger, install that version; otherwise run `mergenode verify`"


def encode(fact: Fact) -> str:
    """The body of a fact: canonical JSON, ASCII. Whole numbers in float fields become floats.

    Raises:
        FatalError: a field holds what no reader would accept (NaN, a wrong type); names kind and field.
    """
    if KINDS.get(fact.kind) is not type(fact):
        raise FatalError(f"{type(fact).__name__} is not a kind of fact that the ledger knows")
    try:
        values = {name: _written(hint, getattr(fact, name), name) for name, hint in _hints(fact.kind).items()}
        return canonical({"kind": fact.kind, **values})
    except ValueError as error:
        raise FatalError(
            f"a {fact.kind} fact cannot be recorded: {error}",
            hint="nothing was recorded; please report this message",
        ) from error


def decode(body: str, sequence: int) -> Fact:
    """The fact that ``encode`` wrote as ``body``; ``sequence`` only names it in errors.

    Raises:
        FatalError: not a fact of this version: unknown kind or field, missing field, wrong type, broken JSON.
    """
    try:
        values = parse(body)
        if not isinstance(values, dict):
            raise ValueError("the body is not a JSON object")
        return _fact(values)
    except ValueError as error:
        raise FatalError(f"ledger fact {sequence} cannot be read: {error}", hint=_NEWER) from error


def _fact(values: dict[str, Any]) -> Fact:
    kind = values.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}")
    hints = _hints(kind)
    if unknown := sorted(values.keys() - hints.keys()):
        raise ValueError(f"unknown field {unknown[0]!r} in a {kind} fact")
    if missing := sorted(_required(kind) - values.keys()):
        raise ValueError(f"field {missing[0]!r} is missing in a {kind} fact")
    return KINDS[kind](**{name: _read(hints[name], value, name) for name, value in values.items()})


@cache
def _hints(kind: str) -> Mapping[str, Any]:
    """The declared type of every field of a kind."""
    declared = get_type_hints(KINDS[kind])
    return {field.name: declared[field.name] for field in fields(KINDS[kind])}


@cache
def _required(kind: str) -> frozenset[str]:
    return frozenset(
        field.name for field in fields(KINDS[kind]) if field.default is MISSING and field.default_factory is MISSING
    )


def _written(hint: Any, value: Any, where: str) -> Any:
    """A field's value as JSON has it; whole numbers are floats where floats are declared."""
    return _convert(hint, value, where, _as_written)


def _read(hint: Any, value: Any, where: str) -> Any:
    """A JSON value as the field declares it: lists become tuples."""
    return _convert(hint, value, where, _as_read)


def _as_written(hint: type, value: Any) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _as_read(hint: type, value: Any) -> Any:
    return tuple(value) if hint is tuple and isinstance(value, list) else value


def _convert(hint: Any, value: Any, where: str, adapt: Callable[[type, Any], Any]) -> Any:
    """Check ``value`` against a declared type. Knows the types that records are made of, no others."""
    if hint is Any:
        return value
    if isinstance(hint, NewType):
        return _convert(hint.__supertype__, value, where, adapt)
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        (present,) = (part for part in get_args(hint) if part is not NoneType)
        return None if value is None else _convert(present, value, where, adapt)
    plain = Mapping if origin is not None and issubclass(origin, Mapping) else origin or hint
    value = adapt(plain, value)
    if not isinstance(value, plain) or (isinstance(value, bool) and plain is not bool):
        raise ValueError(f"field {where!r} holds {_shown(value)}, not a {plain.__name__}")
    if plain is Mapping:
        part = get_args(hint)[1]
        return {key: _convert(part, item, f"{where}.{key}", adapt) for key, item in value.items()}
    if plain is tuple:
        part = get_args(hint)[0]
        return tuple(_convert(part, item, f"{where}[{place}]", adapt) for place, item in enumerate(value))
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
