"""A YAML file as plain data plus the line of every setting.

YAML is read as the JSON-like subset people expect (YAML 1.2 core): ``true`` and ``false`` are the only
booleans, ``1e-3`` is a number, dates stay text, tags are refused. ``${VAR}`` and ``${VAR:-default}`` are
replaced in values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from mergenode.errors import UsageError

Where = tuple[str | int, ...]
"""The path to a setting inside the document: keys and list positions."""

MAX_BYTES = 1 << 20
MAX_VALUES = 10_000
MAX_DEPTH = 32

_VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)\{|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|\{)")

_BRACES = "inside {...} or [...] a value with ${NAME} must be quoted; unquoted it needs a line of its own"
_INTEGER = re.compile(r"[-+]?[0-9]{1,30}")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]{1,30}|[0-9]{1,30}(\.[0-9]{0,30})?)([eE][-+]?[0-9]{1,4})?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


@dataclass(frozen=True, slots=True)
class Document:
    """``lines`` maps the path of every key and list entry to its line, counted from 1."""

    name: str
    data: object
    lines: Mapping[Where, int]

    def line_of(self, where: Where) -> int:
        """The line of a setting, or of the nearest enclosing one that is written down."""
        for length in range(len(where), -1, -1):
            if where[:length] in self.lines:
                return self.lines[where[:length]]
        return 1


def read_document(path: Path, environment: Mapping[str, str]) -> Document:
    """Read a settings file of at most 1 MiB.

    Raises:
        UsageError: missing or unreadable file, invalid YAML, a key written twice, an unset variable. The
            message starts with the file as given and the line.
    """
    name = str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}", hint="name the settings file with -c FILE") from error
    if len(raw) > MAX_BYTES:
        raise UsageError(f"{name}: larger than 1 MiB, this is not a settings file")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{name}:{line}: not UTF-8 text") from error
    return parse_document(name, text, environment)


def parse_document(name: str, text: str, environment: Mapping[str, str]) -> Document:
    """Parse YAML text; ``name`` is the file name for messages. Raises UsageError as ``read_document``."""
    try:
        root = yaml.compose(text, yaml.BaseLoader)  # tags stay unread
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        message = f"{name}{line}: not valid YAML: {error.problem or error.context}"
        raise UsageError(message, hint=_BRACES if "${" in text else "") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise UsageError(f"{name}: nested deeper than {MAX_DEPTH} levels") from error
    reading = _Reading(name, environment)
    data = reading.value(root, ()) if root is not None else {}
    return Document(name, data, reading.lines)


class _Reading:
    """One walk over the node graph: duplicate keys, variables, lines, and bounds against alias bombs."""

    def __init__(self, name: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self.environment = environment
        self.lines: dict[Where, int] = {}
        self.values = 0

    def value(self, node: yaml.Node, where: Where) -> object:
        self.values += 1
        if self.values > MAX_VALUES:
            raise self._error(node, f"more than {MAX_VALUES} values (aliases included)")
        if len(where) > MAX_DEPTH:
            raise self._error(node, f"nested deeper than {MAX_DEPTH} levels")
        self.lines.setdefault(where, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            self._known_tag(node, "map")
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode):
            self._known_tag(node, "seq")
            return [self.value(entry, (*where, position)) for position, entry in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, where)

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, object]:
        result: dict[str, object] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.value == "<<":
                raise self._error(key_node, "keys must be plain names")
            key = str(key_node.value)
            here = (*where, key)
            if key in result:
                raise self._error(
                    key_node, f"setting {dotted(here)!r} is written twice, first on line {self.lines[here]}"
                )
            self.lines[here] = key_node.start_mark.line + 1
            result[key] = self.value(value_node, here)
        return result

    def _scalar(self, node: yaml.ScalarNode, where: Where) -> object:
        self._known_tag(node, "str")
        # Expanded first: an unquoted ${THREADS} means the number in it, as if it had been written there.
        text = self._expand(str(node.value), node, where)
        return _plain_value(text) if node.style is None else text

    def _expand(self, text: str, node: yaml.Node, where: Where) -> str:
        def replace(match: re.Match[str]) -> str:
            if match["escaped"]:
                return "${"
            if match["name"] is None:
                raise self._error(
                    node,
                    f"{dotted(where)!r}: not a variable: {text!r}",
                    "write ${NAME}, ${NAME:-default}, or $${ for a literal ${",
                )
            found = self.environment.get(match["name"], "")
            if match["default"] is not None:
                return found or match["default"]
            if match["name"] not in self.environment:
                message = f"environment variable {match['name']!r} is not set, but {dotted(where)!r} uses it"
                raise self._error(node, message, f"set it, or give a default: ${{{match['name']}:-value}}")
            return found

        return _VARIABLE.sub(replace, text)

    def _known_tag(self, node: yaml.Node, kind: str) -> None:
        if node.tag != f"tag:yaml.org,2002:{kind}":
            raise self._error(node, f"tag {node.tag!r} is not allowed")

    def _error(self, node: yaml.Node, message: str, hint: str = "") -> UsageError:
        return UsageError(f"{self.name}:{node.start_mark.line + 1}: {message}", hint=hint)


def _plain_value(text: str) -> object:
    """What an unquoted scalar means in the core schema of YAML 1.2 (section 10.3), without hex and octal."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text.lower() == "true"
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def dotted(where: Where) -> str:
    """The path of a setting as people write it.

    Example:
        >>> dotted(("registries", 0, "url"))
        'registries[0].url'
    """
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
