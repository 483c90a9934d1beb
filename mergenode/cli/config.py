"""``mergenode config``: check a settings file before a node sees it, and describe what may stand in one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mergenode.cli.lazy import SuggestingGroup
from mergenode.cli.output import print_json
from mergenode.errors import UsageError

if TYPE_CHECKING:
    from mergenode.settings import Settings


@click.group(cls=SuggestingGroup)
def config() -> None:
    """Check a settings file, or print the schema of one.

    \b
    Example:
      mergenode config check node.yaml
    """


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Validate FILE and the paths in it; exit 2 and name each problem otherwise.

    Nothing is created or read but FILE itself: the base and the registries must exist and be readable, the
    places for state and versions must be creatable and writable.

    \b
    Example:
      mergenode config check node.yaml
    """
    from mergenode.settings import load_settings

    settings = load_settings(file)
    problems = [f"{file}: {problem}" for problem in path_problems(settings)]
    if problems:
        raise UsageError("\n".join(problems), hint="relative paths count from the directory of the settings file")
    watched = ", ".join(registry.name for registry in settings.registries) or "nothing"
    click.echo(f"{file}: ok (node {settings.node.name}, method {settings.method.name}, watches {watched})")


@config.command()
def schema() -> None:
    """Print the JSON Schema of settings files, for editors and charts.

    \b
    Example:
      mergenode config schema > node.schema.json
    """
    from mergenode.settings import settings_schema

    print_json(settings_schema())


def path_problems(settings: Settings) -> Iterator[str]:
    """One sentence for every path in the settings that cannot be used the way the node will use it."""
    readable = [("base", settings.base)]
    readable += [(f"registries[{n}]", registry.path) for n, registry in enumerate(settings.registries)]
    for name, path in readable:
        if not os.access(path, os.F_OK):  # unlike Path.exists, no exception below a closed directory
            yield f"{name}: {path} does not exist or is hidden from this user"
        elif name != "base" and not path.is_dir():
            yield f"{name}: {path} is not a directory"
        elif not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
            yield f"{name}: {path} is not readable by this user"
    for name, path in [("node.state", settings.node.state), ("publish.path", settings.publish.path)]:
        existing = next(parent for parent in (path, *path.parents) if os.access(parent, os.F_OK))
        if not existing.is_dir():
            yield f"{name}: {existing} is not a directory"
        elif not os.access(existing, os.W_OK | os.X_OK):
            yield f"{name}: {existing} is not writable by this user"
