"""Places where checkpoints appear. Listings are the truth; events only shorten the wait."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.registries.folder import FolderRegistry
from mergenode.errors import UsageError
from mergenode.ports.clock import Clock
from mergenode.ports.registry import Registry


class OpenRegistry(Protocol):
    """How one kind of registry is opened; ``name`` is empty for the last part of the url."""

    def __call__(
        self,
        url: str,
        *,
        name: str,
        clock: Clock,
        settle_seconds: float,
        settle_polls: int,
        give_up_seconds: float | None,
        limits: Limits,
    ) -> Registry: ...


def open_folder(
    url: str,
    *,
    name: str,
    clock: Clock,
    settle_seconds: float,
    settle_polls: int,
    give_up_seconds: float | None,
    limits: Limits,
) -> Registry:
    """A directory, by path or ``file://`` URL. An absent one is unreachable, not wrong."""
    root = folder_path(url)
    return FolderRegistry(
        root,
        name or root.absolute().name or "registry",
        clock=clock,
        settle_seconds=settle_seconds,
        settle_polls=settle_polls,
        give_up_seconds=give_up_seconds,
        limits=limits,
    )


REGISTRIES: Mapping[str, OpenRegistry] = {
    "": open_folder,
    "file": open_folder,
}
"""Every kind of registry by the scheme of its URL; a plain path has none."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def open_registry(
    url: str,
    *,
    clock: Clock,
    name: str = "",
    settle_seconds: float = 30.0,
    settle_polls: int = 3,
    give_up_seconds: float | None = None,
    limits: Limits | None = None,
) -> Registry:
    """The registry behind a URL; nothing is read yet.

    Raises:
        UsageError: the scheme is unknown, or the URL of a directory names a host or no absolute path.
    """
    match = _SCHEME.match(url)
    scheme = match[1].lower() if match else ""
    if scheme not in REGISTRIES:
        known = ", ".join("a path" if not kind else f"{kind}://" for kind in REGISTRIES)
        near = difflib.get_close_matches(scheme, [kind for kind in REGISTRIES if kind], n=1)
        guess = f" Did you mean {near[0]}://?" if near else ""
        raise UsageError(f"{url}: no registry for {scheme}://", hint=f"There is: {known}.{guess}")
    return REGISTRIES[scheme](
        url,
        name=name,
        clock=clock,
        settle_seconds=settle_seconds,
        settle_polls=settle_polls,
        give_up_seconds=give_up_seconds,
        limits=limits or Limits(),
    )


def folder_path(url: str) -> Path:
    """The directory that a path or ``file://`` URL names.

    Example:
        >>> str(folder_path("file:///srv/my%20inbox"))
        '/srv/my inbox'

    Raises:
        UsageError: empty, another host, or not absolute.
    """
    if not _SCHEME.match(url):
        if not url:
            raise UsageError("the path of a registry is empty", hint="Name a directory.")
        return Path(url)
    parts = urlsplit(url)
    path = unquote(parts.path)
    if (
        parts.netloc not in ("", "localhost")
        or not path.startswith("/")
        or parts.query
        or parts.fragment
        or "\0" in path
    ):
        raise UsageError(f"{url}: not a local directory", hint="Write file:///absolute/path.")
    return Path(path)
