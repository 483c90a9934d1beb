"""``mergenode retract``: take contributions out of the merge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from mergenode.cli.node import Node, config_option, open_node
from mergenode.cli.output import json_option
from mergenode.errors import UsageError
from mergenode.ledger.changes import Change
from mergenode.ledger.records import Admitted, Folded, Member, Retracted
from mergenode.types import Digest

_NAMES_OFFERED = 1000


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@config_option
@click.option("--why", default="", help="A reason, kept in the ledger and shown by history.")
@click.option("--registry", default=None, help="The registry it came from, where several have that name.")
@click.option(
    "--from", "source", type=click.Path(path_type=Path, exists=True), default=None,
    help="Where its files are now, when they are no longer where they were folded from (one NAME only).",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say what would be done, and how.")
@json_option
def retract(
    names: tuple[str, ...], config: Path, why: str, registry: str | None, source: Path | None, dry_run: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Take the contributions NAME out of the merge and publish what is left.

    A method that can subtract reads the contribution once more and takes it out; opcm folds the others again from the
    newest snapshot before it (see `snapshots` in the settings), or from the base. It does not come back by itself,
    though it still lies in its registry; `mergenode ingest PATH` takes it in again. NAME may be REGISTRY/NAME or a
    content digest. Asked again after a kill, it goes on to the version without it.

    \b
    Examples:
      mergenode retract my-finetune -c node.yaml --why "consent withdrawn"
      mergenode retract a b -c node.yaml --dry-run

    JSON: schema, leaving [{registry, name, content}], how (subtracted, replayed or null), reads (contributions),
    from_generation, facts (what was recorded, as in history; null with --dry-run).
    """
    from mergenode.cli.changes import make_change

    with open_node(config) as node:
        found = (_content(node, name, registry) for name in names)
        contents = tuple(dict.fromkeys(found))
        places = {}
        if source is not None:
            if len(names) > 1:
                raise UsageError("--from names one place, but several contributions are named", hint="Name one.")
            places = {contents[0]: str(source.resolve())}
        change = Change("", contents, why=why, places=places)
        make_change(node, config, change, dry_run=dry_run, as_json=as_json)


def _content(node: Node, name: str, registry: str | None) -> Digest:
    """What is meant: a contribution of the merge, or one that left and is in the newest version still.

    ``name``: as it is called, as a team pushed it, REGISTRY/NAME, or its content digest. Raises UsageError when there
    is none, or more than one.
    """
    groups = _named(node, name)
    if not any(groups) and registry is None and "/" in name:
        registry, _, name = name.partition("/")
        groups = _named(node, name)
    found = next(filter(None, ([fact for fact in group if registry in (None, fact.registry)] for group in groups)), [])
    if not found:
        anywhere = [fact for group in groups for fact in group]
        raise _elsewhere(node, name, anywhere, registry) if anywhere else _unknown(node, name)
    if len(found) > 1:
        places = ", ".join(f"{fact.registry}/{fact.name} ({fact.content[:19]})" for fact in found)
        raise UsageError(f"{len(found)} contributions {name!r} are in the merge: {places}",
                         hint="Name the registry with --registry, or give the content digest.")  # fmt: skip
    return found[0].content


def _named(node: Node, name: str) -> Sequence[Sequence[Member | Retracted]]:
    """What may be meant by this name, whatever its registry: the first of these that has one is."""
    if name.startswith("blake3:"):
        member = node.shown.by_content(Digest(name))
        return [[] if member is None else [member], [fact for fact in _unpublished(node) if fact.content == name]]
    inside = [
        fact
        for _, fact in node.shown.facts(kinds=("folded", "admitted"), name=name)
        if isinstance(fact, Folded | Admitted) and node.shown.by_content(fact.content) == fact
    ]
    # What teams pushed is called NAME@ROOT in the merge.
    recent = node.shown.newest_members(_NAMES_OFFERED)
    pushed = [member for _, member in recent if member.name.rpartition("@")[0] == name]
    left = [fact for fact in _unpublished(node) if name in (fact.name, fact.name.rpartition("@")[0])]
    return [inside, pushed, left]


def _unpublished(node: Node) -> Sequence[Retracted]:
    """What left the merge after its newest version: a kill came before the version without it."""
    head = node.shown.head()
    if not head.restated or head.published_generation >= head.generation:
        return []
    published = node.reader.facts(kinds=("published",), newest=1)
    since = published[-1][0] if published else 0
    retracted = node.reader.facts(kinds=("retracted",), newest=_NAMES_OFFERED)
    left = [fact for sequence, fact in retracted if sequence > since and isinstance(fact, Retracted)]
    return list({fact.content: fact for fact in left}.values())


def _elsewhere(node: Node, name: str, found: Sequence[Member | Retracted], registry: str | None) -> UsageError:
    there = ", ".join(f"{fact.registry}/{fact.name}" for fact in found)
    known = {entry.name for entry in node.settings.registries} | {fact.registry for fact in found}
    return UsageError(
        f"{name!r} is in the merge as {there}, not from a registry {registry!r}",
        hint=f"Registries: {', '.join(sorted(known))}.",
    )


def _unknown(node: Node, name: str) -> UsageError:
    from difflib import get_close_matches

    facts = node.reader.facts(name=name, newest=1) if not name.startswith("blake3:") else []
    if facts:
        return UsageError(
            f"{name!r} is not in the merge: its last fact is {facts[-1][1].kind!r}",
            hint=f"`mergenode show {name}` tells its story",
        )
    names = {member.name for _, member in node.shown.newest_members(_NAMES_OFFERED)}
    near = get_close_matches(name, names, n=1)
    suggestion = f"; did you mean {near[0]!r}?" if near else ""
    return UsageError(f"no contribution {name!r} in the merge{suggestion}", hint="`mergenode history` lists them")
