"""Names that differ by one prefix: ``model.layers.0...`` in one file is ``layers.0...`` in another."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

_MAX_CANDIDATES = 8


class Prefix(NamedTuple):
    """``apply``: take ``strip`` off the front of a name, put ``add`` there. At most one of them is not empty."""

    strip: str = ""
    add: str = ""

    def apply(self, name: str) -> str:
        return self.add + name.removeprefix(self.strip)

    def __str__(self) -> str:
        return f"without the prefix {self.strip!r}" if self.strip else f"with the prefix {self.add!r}"


SAME = Prefix()


def uniform_prefix(names: Collection[str], there: Collection[str]) -> Prefix | None:
    """The one prefix to strip from, or add to, every name so that all of them are ``there``.

    ``SAME`` when they are already; None when no single prefix does it. ``there``: a set or mapping.
    """
    stray = next((name for name in names if name not in there), None)
    if stray is None:
        return SAME
    for prefix in _candidates(stray, there):
        if all(name.startswith(prefix.strip) and prefix.apply(name) in there for name in names):
            return prefix
    return None


def _candidates(name: str, there: Collection[str]) -> Iterable[Prefix]:
    longer = sorted(other for other in there if other.endswith(f".{name}"))
    for other in longer[:_MAX_CANDIDATES]:
        yield Prefix(add=other[: len(other) - len(name)])
    position = name.find(".")
    while position != -1:
        if name[position + 1 :] in there:
            yield Prefix(strip=name[: position + 1])
        position = name.find(".", position + 1)
