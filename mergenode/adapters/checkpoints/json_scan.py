"""A strict JSON reader for hostile input: it walks bytes, keeps nothing, and never recurses deeper than it is told.

``json.loads`` builds the whole document before anybody can look at it: one hundred megabytes of ``[[],[],...`` become
gigabytes of Python objects. Headers and indices are flat, so they are walked instead, entry by entry.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

_SPACE = re.compile(rb"[ \t\n\r]*+")
# Possessive quantifiers: no backtracking, so the time is linear and no match stack grows with the input.
_STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"')
_NUMBER = re.compile(rb"-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+")
_INTEGER = re.compile(rb"(?:0|[1-9][0-9]*+)(?![0-9.eE])")
_LITERAL = re.compile(rb"true|false|null")
_INTEGER_DIGITS = 20
_SKIP_DEPTH = 16
_SKIP_BYTES = 256 << 10


class JsonFault(ValueError):
    """The text is not the JSON that was expected; the message says what and at which byte."""


class DuplicateKey(JsonFault):
    """An object names the same key twice."""


class JsonScanner:
    """Walks one document. Every method starts at ``position`` and leaves it behind what it read."""

    __slots__ = ("position", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.position = 0

    def fault(self, expected: str) -> JsonFault:
        found = self.text[self.position : self.position + 12]
        what = repr(found.decode("utf-8", "replace")) if found else "the end"
        return JsonFault(f"expected {expected} at byte {self.position}, found {what}")

    def next_byte(self) -> bytes:
        """The next byte that is not white space, unread; empty at the end."""
        found = _SPACE.match(self.text, self.position)
        assert found is not None
        self.position = found.end()
        return self.text[self.position : self.position + 1]

    def expect(self, byte: bytes) -> None:
        if self.next_byte() != byte:
            raise self.fault(f"'{byte.decode()}'")
        self.position += 1

    def end(self) -> None:
        """Nothing but white space may follow."""
        if self.next_byte():
            raise self.fault("the end of the document")

    def string(self, max_bytes: int) -> str:
        """A string of at most ``max_bytes`` as written (escapes included)."""
        raw = self.raw_string(max_bytes)
        try:
            value: str = json.loads(raw.decode())
        except UnicodeDecodeError as error:
            raise JsonFault(f"the string that ends at byte {self.position} is not UTF-8") from error
        return value

    def raw_string(self, max_bytes: int) -> bytes:
        """Like ``string``, with quotes and escapes left as they are."""
        self.next_byte()
        found = _STRING.match(self.text, self.position)
        if found is None:
            raise self.fault("a string")
        if found.end() - found.start() - 2 > max_bytes:
            raise JsonFault(f"the string at byte {self.position} is longer than {max_bytes} bytes")
        self.position = found.end()
        return found.group()

    def natural(self) -> int:
        """An integer >= 0 written with digits only: no sign, fraction, exponent, true or false."""
        self.next_byte()
        found = _INTEGER.match(self.text, self.position)
        if found is None:
            raise self.fault("an integer >= 0")
        if found.end() - found.start() > _INTEGER_DIGITS:
            raise JsonFault(f"the integer at byte {self.position} has more than {_INTEGER_DIGITS} digits")
        self.position = found.end()
        return int(found.group())

    def naturals(self, max_count: int) -> tuple[int, ...]:
        """An array of at most ``max_count`` integers >= 0."""
        self.expect(b"[")
        values: list[int] = []
        if self.next_byte() == b"]":
            self.position += 1
            return ()
        while True:
            if len(values) == max_count:
                raise JsonFault(f"the array that reaches byte {self.position} has more than {max_count} entries")
            values.append(self.natural())
            if self.next_byte() == b"]":
                self.position += 1
                return tuple(values)
            self.expect(b",")

    def keys(self, max_bytes: int) -> Iterator[str]:
        """The keys of an object; the caller reads the value of each before it asks for the next.

        Does not notice duplicates: the caller keeps what it read and knows.
        """
        self.expect(b"{")
        if self.next_byte() == b"}":
            self.position += 1
            return
        while True:
            key = self.string(max_bytes)
            self.expect(b":")
            yield key
            if self.next_byte() == b"}":
                self.position += 1
                return
            self.expect(b",")

    def skip(self, depth: int = _SKIP_DEPTH, max_bytes: int = _SKIP_BYTES) -> None:
        """Any value, read and forgotten; at most ``depth`` levels deep and ``max_bytes`` long."""
        self.next_byte()
        self._skip(depth, self.position + max_bytes)

    def _skip(self, depth: int, limit: int) -> None:
        first = self.next_byte()
        if first in (b"{", b"["):
            if depth == 0:
                raise self.fault("fewer levels of nesting")
            self._skip_container(first, depth - 1, limit)
            return
        pattern = _STRING if first == b'"' else _LITERAL if first.isalpha() else _NUMBER
        found = pattern.match(self.text, self.position)
        if found is None:
            raise self.fault("a value")
        self.position = found.end()
        if self.position > limit:
            raise JsonFault(f"the value that reaches byte {self.position} is too long")

    def _skip_container(self, opening: bytes, depth: int, limit: int) -> None:
        closing = b"}" if opening == b"{" else b"]"
        self.position += 1
        if self.next_byte() == closing:
            self.position += 1
            return
        while True:
            if opening == b"{":
                self.raw_string(len(self.text))
                self.expect(b":")
            self._skip(depth, limit)
            if self.position > limit:
                raise JsonFault(f"the value that reaches byte {self.position} is too long")
            if self.next_byte() == closing:
                self.position += 1
                return
            self.expect(b",")


def parse_small(text: bytes) -> object:
    """A whole document of a size the caller has capped, with duplicate keys refused.

    Raises:
        JsonFault: not JSON, not UTF-8, nested too deeply, or with NaN or Infinity; DuplicateKey for its case.
    """
    try:
        return json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except JsonFault:
        raise
    except RecursionError as error:
        raise JsonFault("is nested too deeply") from error
    except ValueError as error:
        raise JsonFault(str(error)) from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise DuplicateKey(f"key {key[:80]!r} is there twice")
        found[key] = value
    return found


def _no_constant(name: str) -> object:
    raise JsonFault(f"{name} is not JSON")
