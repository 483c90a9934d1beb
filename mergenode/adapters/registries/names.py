"""What the names of files say: in progress, weights, settings, pickles, unsafe."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mergenode.adapters.checkpoints.side_car_names import KINDS, is_side_car, side_car_beside

IN_PROGRESS_SUFFIXES = (".tmp", ".partial", ".incomplete", ".part", ".downloading", ".crdownload", ".aria2")
"""Suffixes under which copying and downloading programs keep unfinished files and directories."""

WEIGHTS_SUFFIX = ".safetensors"
INDEX_SUFFIX = ".safetensors.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
CONFIG_NAMES = frozenset({"config.json", "adapter_config.json"})
SYSTEM_DIRECTORIES = frozenset({"lost+found", "System Volume Information", "$RECYCLE.BIN", "__pycache__"})
"""Directories that file systems and tools make by themselves."""

_NUMBERED_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})\.safetensors", re.DOTALL)
_NAME_BYTES = 255
_PATH_BYTES = 1024


def is_hidden(name: str) -> bool:
    return name.startswith(".")


def is_in_progress(name: str) -> bool:
    """True for a name that its writer will change once the content is complete.

    Example:
        >>> [is_in_progress(name) for name in (".model", "model.part", "model.safetensors")]
        [True, True, False]
    """
    return is_hidden(name) or name.lower().endswith(IN_PROGRESS_SUFFIXES)


def is_safetensors(name: str) -> bool:
    """True for weights and for the side-cars beside them: both are as long as their headers say."""
    return name.endswith(WEIGHTS_SUFFIX)


def is_weights(name: str) -> bool:
    """True for files that may hold a checkpoint's weights; a side-car never does."""
    return is_safetensors(name) and not is_side_car(name.rpartition("/")[2])


def side_cars_of(weights: str) -> tuple[str, ...]:
    """The names that the side-cars of a bare weight file have.

    Example:
        >>> side_cars_of("maths.safetensors")
        ('maths.fisher.safetensors', 'maths.gram.safetensors')
    """
    return tuple(side_car_beside(weights, kind) for kind in KINDS)


def is_index(name: str) -> bool:
    return name.endswith(INDEX_SUFFIX)


def is_pickle(name: str) -> bool:
    return name.lower().endswith(PICKLE_SUFFIXES)


def defines_content(name: str) -> bool:
    """True for the files that decide what a checkpoint contributes: weights, side-cars, index, configuration."""
    return is_safetensors(name) or is_index(name) or name in CONFIG_NAMES


def is_plain(name: str) -> bool:
    """True for a path component that every store can keep: printable, valid Unicode, not special."""
    if not name or name in (".", "..") or "/" in name or "\\" in name or not name.isprintable():
        return False
    return len(name.encode("utf-8", "surrogateescape")) <= _NAME_BYTES


def is_plain_relative(path: str) -> bool:
    """True for a relative path of plain components that cannot leave its directory.

    Example:
        >>> [is_plain_relative(path) for path in ("a/b.json", "../a", "/a", "a//b", "")]
        [True, False, False, False, False]
    """
    return len(path) <= _PATH_BYTES and all(is_plain(part) for part in path.split("/"))


def printable(name: str) -> str:
    r"""The name with everything escaped that a terminal, a log line or a database could stumble over.

    Example:
        >>> printable("a\nb\udcff")
        'a\\nb\\udcff'
    """
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode("ascii") for mark in name)


def shard_family(name: str) -> tuple[str, int] | None:
    """Stem and count that a numbered shard speaks of, None for other names.

    Example:
        >>> shard_family("model-00002-of-00003.safetensors")
        ('model', 3)
    """
    match = _NUMBERED_SHARD.fullmatch(name)
    return None if match is None else (match["stem"], int(match["count"]))


def shards_of(family: tuple[str, int]) -> Iterator[str]:
    """The names of all shards of a family.

    Example:
        >>> list(shards_of(("model", 2)))
        ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
    """
    stem, count = family
    for number in range(1, count + 1):
        yield f"{stem}-{number:05d}-of-{count:05d}{WEIGHTS_SUFFIX}"
