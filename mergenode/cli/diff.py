"""``mergenode diff``: what changed between two versions."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from mergenode.cli.node import config_option
from mergenode.cli.output import console, json_option, number_text, percent_text, print_json, table, visible
from mergenode.errors import MergenodeError, UsageError
from mergenode.settings import load_settings


@click.command(epilog="\b\nExample:\n  mergenode diff 3 7 -c node.yaml")
@config_option
@json_option
@click.argument("first")
@click.argument("second")
def diff(config: Path, first: str, second: str, as_json: bool) -> None:
    """What changed from one version to another: contributions, and per layer group norm, cosine and distance.

    FIRST and SECOND are version numbers, or directories of checkpoints of the same base. JSON keys: first, second,
    added, removed, groups (group, parameters, first_norm, second_norm, change_norm, cosine).
    """
    settings = load_settings(config)
    from mergenode.adapters.checkpoints.regular_file import trusted_root
    from mergenode.adapters.checkpoints.weights import open_weights
    from mergenode.adapters.engines.local.compare import compare
    from mergenode.bootstrap.parts import base_model
    from mergenode.cli.progress import TerminalProgress
    from mergenode.ports.observer import Progress

    folders = [_folder(settings.publish.path, given) for given in (first, second)]
    with ExitStack() as stack:
        progress = stack.enter_context(TerminalProgress())
        files = []
        for path in (settings.base, *folders):
            try:
                files.append(stack.enter_context(open_weights(path, root=trusted_root(path))))
            except MergenodeError as error:
                raise UsageError(f"{path}: {error.message}", hint=error.hint) from error
        total = sum(opened.total_bytes for opened in files)
        done = 0

        def advance(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            progress.progress(Progress("diff", f"{first} {second}", 0, 0, min(done, total), total))

        aliases = base_model(settings, progress).aliases
        changes = compare(files[0], files[1], files[2], advance, aliases=aliases)
    before, after = (_contributions(folder) for folder in folders)
    document: dict[str, Any] = {
        "first": str(folders[0]),
        "second": str(folders[1]),
        "added": [after[content] for content in after if content not in before],
        "removed": [before[content] for content in before if content not in after],
        "groups": [
            {
                "group": change.group, "parameters": change.parameters, "first_norm": change.first_norm,
                "second_norm": change.second_norm, "change_norm": change.change_norm, "cosine": change.cosine,
            }
            for change in changes
        ],
    }  # fmt: skip
    if as_json:
        print_json(document)
    else:
        _print(document)


def _folder(published: Path, given: str) -> Path:
    number = given.removeprefix("v")
    path = published / f"v{int(number):06d}" if number.isascii() and number.isdigit() else Path(given)
    if not path.exists():
        kept = ", ".join(sorted(entry.name for entry in published.glob("v*"))) if published.is_dir() else ""
        raise UsageError(f"{path}: no such version", hint=f"Versions on disk: {kept or 'none'}.")
    return path


def _contributions(folder: Path) -> dict[str, str]:
    """Content -> name of what a version was made of; empty for a checkpoint that is not a version."""
    try:
        manifest = json.loads((folder / "mergenode.json").read_bytes())
        return {entry["content"]: entry["name"] for entry in manifest["contributions"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _print(document: dict[str, Any]) -> None:
    for verb in ("added", "removed"):
        if document[verb]:
            click.echo(f"{verb}: {', '.join(visible(name) for name in document[verb])}")
    columns = ("group", "parameters", "first - base", "second - base", "second - first", "change", "cosine")
    rows = table(*columns, right=columns[1:])
    for group in document["groups"]:
        change = group["change_norm"] / group["first_norm"] if group["first_norm"] else None
        rows.add_row(
            "whole model" if group["group"] == "*" else visible(group["group"]),
            f"{group['parameters']:,}",
            number_text(group["first_norm"]),
            number_text(group["second_norm"]),
            number_text(group["change_norm"]),
            percent_text(change),
            number_text(group["cosine"]),
        )
    console().print(rows)
