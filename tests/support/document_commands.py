"""The commands of a document, taken out of its fenced blocks, and the places that they name moved below a folder."""

from __future__ import annotations

import re
from pathlib import Path

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
PLACES = ("etc/mergenode", "opt/mergenode", "srv", "var/lib/mergenode", "data", "models", "registries")
"""What a node has at the root of its file system."""
_PLACE = re.compile(rf"(?<![\w.~}}$/-])/(?=(?:{'|'.join(PLACES)})(?:[/\s:\"',\]}}]|$))")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of this language; an empty one: those that hold commands."""
    return [body for name, body in BLOCK.findall(text) if name == language]


def commands(text: str) -> list[str]:
    """Every command of the blocks without a language, in order; what stands behind ``#`` is for people."""
    lines = [re.sub(r"\s+#.*$", "", line) for block in blocks(text, "") for line in block.splitlines()]
    return [line for line in lines if line.strip()]


def moved(text: str, root: Path) -> str:
    """The same with the places of a node below ``root``."""
    return _PLACE.sub(lambda _: f"{root}/", text)
