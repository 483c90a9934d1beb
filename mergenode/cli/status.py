"""``mergenode status``: what is in the merge, what waits, what was refused, is it running."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergenode.cli.facts import fact_fields, pending, share_kept
from mergenode.cli.node import Node, config_option, open_node, running_process
from mergenode.cli.output import (
    console,
    field_table,
    json_option,
    number_text,
    percent_text,
    print_json,
    table,
    visible,
)
from mergenode.cli.waiting_changes import waiting_changes
from mergenode.ledger.records import Quarantined
from mergenode.ports.activity_text import sentence
from mergenode.sizes import bytes_text, seconds_text

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = "mergenode.status/1"
_SHOWN = 5


@click.command()
@config_option
@click.option("--watch", "watching", is_flag=True, help="Show the long work under way until the node stops or Ctrl-C.")
@click.option(
    "--interval", type=click.FloatRange(0.1, 3600.0), default=1.0, show_default=True,
    help="With --watch: seconds between two looks.",
)  # fmt: skip
@json_option
def status(config: Path, watching: bool, interval: float, as_json: bool) -> None:
    """What is in the merge, what waits, what was rejected; whether the node runs, and what it does now.

    With --watch: folds, exports, transfers, replays and other long work as bars, or as lines where there is no
    terminal, with --json one document in a line for every look. Asks the HTTP port of the node; where that does not
    answer, and of a node that does not run, it shows what the state directory tells.

    \b
    Examples:
      mergenode status -c node.yaml
      mergenode status -c node.yaml --watch
      mergenode status -c node.yaml --json | jq .contributions

    JSON: schema, node, running, pid, host, base {path, digest}, method {name, options}, generation,
    contributions, version, published_generation, lineage, statistics, counts {kind: number}, pending,
    changes (asked for with retract, rollback and the like, not made yet: id, asked, what, subject, why),
    rejected, quarantined, folds (facts as in history; folds with share_kept), in_quarantine, versions, union (null, or
    contributions and lineage of what several nodes have together), disk {state_bytes, published_bytes, free_bytes},
    activities (long work, as in /api/v1/status), activities_source (api, or files, which know no rates).
    With --watch: schema, time, node, running, pid, source, address, problem, version, contributions, pending,
    activities.
    """
    if watching:
        from mergenode.cli.watching import watch

        watch(config, interval=interval, as_json=as_json)
        return
    with open_node(config) as node:
        document = _document(node)
    if as_json:
        print_json(document)
    else:
        _print(document)


def _document(node: Node) -> dict[str, Any]:
    from mergenode.bootstrap.activities import look

    seen = look(node.settings)
    settings, reader, shown = node.settings, node.reader, node.shown.head()
    origin, head, process = reader.initialised(), reader.head(), running_process(settings.node.state)
    rejected = reader.facts(kinds=("rejected",), newest=_SHOWN)
    folds, held = reader.facts(kinds=("folded",), newest=_SHOWN), reader.quarantine(_SHOWN, kind=Quarantined.kind)
    return {
        "schema": SCHEMA,
        "node": settings.node.name,
        "running": process is not None,
        "pid": process.pid if process else None,
        "host": process.host if process else None,
        "base": {"path": str(settings.base), "digest": origin.base if origin else None},
        "method": {"name": origin.method, "options": dict(origin.options)} if origin else None,
        "generation": head.generation,
        "contributions": head.count,
        "version": shown.version,
        "published_generation": shown.published_generation,
        "lineage": head.lineage,
        "statistics": head.statistics,
        "counts": dict(reader.counts()),
        "pending": [fact_fields(sequence, fact) for sequence, fact in pending(reader)],
        "changes": waiting_changes(settings.node.state, node.shown),
        "quarantined": [fact_fields(sequence, fact) for sequence, fact in held],
        "in_quarantine": reader.quarantine_size(),
        "rejected": [fact_fields(sequence, fact) for sequence, fact in rejected],
        "folds": [fact_fields(sequence, fact) | {"share_kept": share_kept(fact)} for sequence, fact in folds],
        "versions": [version.version for version in node.shown.versions()],
        "union": {"contributions": shown.count, "lineage": shown.lineage} if node.in_union else None,
        "disk": _disk(settings.node.state, settings.publish.path),
        "activities": list(seen.activities),
        "activities_source": seen.source,
    }


def _disk(state: Path, published: Path) -> dict[str, int]:
    import shutil

    return {
        "state_bytes": _bytes_below(state),
        "published_bytes": _bytes_below(published),
        "free_bytes": shutil.disk_usage(state).free,
    }


def _bytes_below(folder: Path) -> int:
    """Bytes of the regular files below a directory; what vanishes meanwhile counts nothing."""
    import os

    total = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(directory, name)).st_size
            except OSError:
                continue
    return total


def _print(status: Mapping[str, Any]) -> None:
    out = console()
    out.print(field_table(_overview(status)))
    _print_folds(status, out)
    _print_named("Waiting", status["pending"], "location", out)
    _print_changes(status, out)
    _print_named("In quarantine", status["quarantined"], "message", out)
    _print_named("Last rejections", status["rejected"], "message", out)


def _overview(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    running = f"running, pid {status['pid']} on {status['host']}" if status["running"] else "not running"
    method, base, disk = status["method"], status["base"], status["disk"]
    told = method["options"].items() if method else ()
    # Lists of name patterns fill the screen; --json has them.
    options = ", ".join(f"{name}={value}" for name, value in told if not isinstance(value, list))
    sizes = [f"{name} {bytes_text(disk[f'{name}_bytes'])}" for name in ("state", "published", "free")]
    return [
        ("node", f"{status['node']} ({running})"),
        ("method", f"{method['name']} {options}".rstrip() if method else "-"),
        ("base", f"{base['path']} {(base['digest'] or '')[:19]}".rstrip()),
        ("in the merge", f"{status['contributions']} contributions, generation {status['generation']}"),
        ("published", _published(status)),
        ("waiting", _waiting(status)),
        *([("quarantine", f"{status['in_quarantine']} contributions")] if status["in_quarantine"] else []),
        ("disk", ", ".join(sizes)),
        *(("now" if status["running"] else "begun", sentence(activity)) for activity in status["activities"]),
    ]


def _waiting(status: Mapping[str, Any]) -> str:
    changes = len(status["changes"])
    what = f"{len(status['pending'])} contributions"
    if not changes:
        return what
    when = "" if status["running"] else ", to be made at the next start"
    return f"{what}, {changes} {'change' if changes == 1 else 'changes'} of the merge{when}"


def _published(status: Mapping[str, Any]) -> str:
    newest = f"v{status['version']:06d}" if status["version"] else "nothing yet"
    behind = status["union"] is None and status["published_generation"] < status["generation"]
    return f"{newest}; generation {status['generation']} is not out yet" if behind else newest


def _print_folds(status: Mapping[str, Any], out: Console) -> None:
    if not status["folds"]:
        return
    numbers = ("norm", "relative", "kept", "took")
    rows = table("contribution", "time", *numbers, right=numbers)
    for fold in status["folds"]:
        rows.add_row(
            visible(f"{fold['registry']}/{fold['name']}"),
            fold["time"],
            number_text(fold["norm"]),
            percent_text(fold["relative_norm"]),
            percent_text(fold["share_kept"]),
            seconds_text(fold["seconds"]),
        )
    out.print("\nLast folds", style="bold")
    out.print(rows)


def _print_changes(status: Mapping[str, Any], out: Console) -> None:
    if not status["changes"]:
        return
    rows = table("change", "asked", "why")
    for change in status["changes"]:
        rows.add_row(visible(f"{change['what']} {change['subject']}"), change["asked"], visible(change["why"]))
    out.print("\nChanges that wait", style="bold")
    out.print(rows)


def _print_named(title: str, facts: list[dict[str, Any]], what: str, out: Console) -> None:
    if not facts:
        return
    rows = table("contribution", "since", "")
    for fact in facts[-_SHOWN:]:
        reason = f"{fact['reason']}: " if "reason" in fact else ""
        rows.add_row(visible(f"{fact['registry']}/{fact['name']}"), fact["time"], visible(reason + str(fact[what])))
    out.print(f"\n{title}", style="bold")
    out.print(rows)
