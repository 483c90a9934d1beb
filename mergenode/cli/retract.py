"""``mergenode retract``: take contributions out of the merge."""

from __future__ import annotations

from pathlib import Path

import click

from mergenode.cli.node import Node, config_option, open_node
from mergenode.cli.output import json_option
from mergenode.errors import UsageError
from mergenode.ledger.changes import Change
from mergenode.ledger.records import Admitted, Folded, Member
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
    though it still lies in its registry; `mergenode ingest PATH` takes it in again. NAME may be a content digest.

    \b
    Examples:
      mergenode retract my-finetune -c node.yaml --why "consent withdrawn"
      mergenode retract a b -c node.yaml --dry-run

    JSON: schema, leaving [{registry, name, content}], how (subtracted, replayed or null), reads (contributions),
    from_generation, facts (what was recorded, as in history; null with --dry-run).
    """
    from mergenode.cli.changes import make_change

    with open_node(config) as node:
        members = [_member(node, name, registry) for name in names]
        places = {}
        if source is not None:
            if len(members) > 1:
                raise UsageError("--from names one place, but several contributions are named", hint="Name one.")
            places = {members[0].content: str(source.resolve())}
        contents = tuple(dict.fromkeys(member.content for member in members))
        change = Change("", contents, why=why, places=places)
        make_change(node, config, change, dry_run=dry_run, as_json=as_json)


def _member(node: Node, name: str, registry: str | None) -> Member:
    """The contribution of the merge that is meant. Raises UsageError when there is none, or more than one."""
    if name.startswith("blake3:"):
        member = node.shown.by_content(Digest(name))
        if member is None:
            raise _unknown(node, name)
        return member
    facts = [fact for _, fact in node.shown.facts(kinds=("folded", "admitted"), name=name)]
    found: list[Member] = [
        fact
        for fact in facts
        if isinstance(fact, Folded | Admitted)
        and node.shown.by_content(fact.content) == fact
        and registry in (None, fact.registry)
    ]
    found = found or _pushed(node, name)
    if not found:
        raise _unknown(node, name)
    if len(found) > 1:
        places = ", ".join(f"{fact.registry}/{fact.name} ({fact.content[:19]})" for fact in found)
        raise UsageError(f"{len(found)} contributions {name!r} are in the merge: {places}",
                         hint="Name the registry with --registry, or give the content digest.")  # fmt: skip
    return found[0]


def _pushed(node: Node, name: str) -> list[Member]:
    """What teams pushed under this name: in the merge it is called NAME@ROOT."""
    recent = node.shown.newest_members(_NAMES_OFFERED)
    return [member for _, member in recent if member.name.rpartition("@")[0] == name]


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
