"""``mergenode show``: everything about one contribution or one version."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from mergenode.cli.drift import drift_table
from mergenode.cli.facts import fact_fields, sentence
from mergenode.cli.findings import print_findings
from mergenode.cli.node import Node, config_option, open_node
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
from mergenode.cli.scale import scale_fields
from mergenode.cli.weighing import pareto_table, protection_fields, weighing_fields
from mergenode.errors import FatalError, UsageError
from mergenode.ledger.records import Fact, Folded, Published
from mergenode.sizes import bytes_text, seconds_text

CONTRIBUTION_SCHEMA = "mergenode.contribution/1"
VERSION_SCHEMA = "mergenode.version-report/1"
_VERSION = re.compile(r"v?0*([0-9]{1,9})")
_NAMES_OFFERED = 1000
_MANIFEST_SHOWN = {"base": "base", "lineage": "lineage", "contributions": "count", "generation": "generation"}
_CONTRIBUTIONS_SHOWN = 50


@click.command()
@click.argument("what", metavar="[NAME|VERSION]", required=False)
@click.option("--generation", type=click.IntRange(min=1), help="The contribution of this fold, instead of a name.")
@config_option
@json_option
def show(what: str | None, generation: int | None, config: Path, as_json: bool) -> None:
    """Everything about one contribution, or what is in one version (7, v000007 or latest).

    A contribution of that name comes before a version. Alerts and metrics name a fold by its generation. Per
    layer group the table tells the norm of the contribution, its cosine with the merge before it, how much of
    it goes against the signs there, the share that the projection kept, the effective rank and the share of
    the spectrum still free.

    \b
    Examples:
      mergenode show my-finetune -c node.yaml
      mergenode show --generation 12 -c node.yaml
      mergenode show latest -c node.yaml --json

    JSON of a contribution: schema, name, registry, facts (all, as in history), fold (the newest folded fact
    or null; its groups are the table). JSON of a version: schema, version, path, digest, manifest
    (mergenode.json).
    """
    if (what is None) == (generation is None):
        raise UsageError("name one contribution or version, or one --generation", hint="see `mergenode show --help`")
    with open_node(config) as node:
        what = what if generation is None else _folded_as(generation, node)
        assert what is not None  # one of both is given
        facts = node.reader.facts(name=what)
        document = _contribution(what, facts) if facts else _version(what, node)
    if as_json:
        print_json(document)
    elif facts:
        _print_contribution(document, facts)
    else:
        _print_version(document)


def _folded_as(generation: int, node: Node) -> str:
    """The name of the contribution that this fold took in. Raises UsageError: no fold has this number."""
    back = node.reader.head().generation - generation
    # Every fold after it has a generation of its own, so it is among so many of the newest.
    newest = node.reader.facts(kinds=("folded",), newest=back + 1) if back >= 0 else ()
    for _, fact in newest:
        if isinstance(fact, Folded) and fact.generation == generation:
            return fact.name
    raise UsageError(
        f"generation {generation} is no fold", hint="`mergenode history --kind folded` lists folds, generations too"
    )


def _contribution(name: str, facts: Sequence[tuple[int, Fact]]) -> dict[str, Any]:
    fields = [fact_fields(sequence, fact) for sequence, fact in facts]
    folds = [fact for fact in fields if fact["kind"] == "folded"]
    return {
        "schema": CONTRIBUTION_SCHEMA,
        "name": name,
        "registry": fields[-1]["registry"],
        "facts": fields,
        "fold": folds[-1] if folds else None,
    }


def _version(what: str, node: Node) -> dict[str, Any]:
    """The report of a version on disk; UsageError when nothing has that name, with the nearest that has."""
    match, versions = _VERSION.fullmatch(what), node.shown.versions()
    wanted = int(match[1]) if match else node.shown.head().version if what == "latest" else None
    for published in versions:
        if published.version == wanted:
            return {
                "schema": VERSION_SCHEMA,
                "version": wanted,
                "path": published.path,
                "digest": published.digest,
                "manifest": _manifest(published),
            }
    if wanted is not None:
        there = ", ".join(f"v{published.version:06d}" for published in versions) or "none"
        raise UsageError(f"no version {what!r} on disk", hint=f"versions on disk: {there}")
    raise _unknown(what, node)


def _unknown(what: str, node: Node) -> UsageError:
    from difflib import get_close_matches

    recent = node.reader.facts(kinds=("discovered",), newest=_NAMES_OFFERED)
    names = {str(getattr(fact, "name", "")) for _, fact in recent}
    near = get_close_matches(what, names, n=1)
    suggestion = f"; did you mean {near[0]!r}?" if near else ""
    return UsageError(
        f"no contribution or version {what!r}{suggestion}",
        hint="`mergenode history` lists what the node has seen",
    )


def _manifest(published: Published) -> dict[str, Any]:
    file = Path(published.path) / "mergenode.json"
    try:
        manifest = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise FatalError(f"{file}: {error}", hint="`mergenode verify` tells which versions are whole") from error
    if not isinstance(manifest, dict):
        raise FatalError(f"{file}: not a manifest", hint="`mergenode verify` tells which versions are whole")
    return manifest


def _print_contribution(document: Mapping[str, Any], facts: Sequence[tuple[int, Fact]]) -> None:
    out = console()
    out.print(f"{visible(document['registry'])}/{visible(document['name'])}", style="bold")
    rows = table("#", "time", "fact", "what", right=("#",))
    for sequence, fact in facts:
        rows.add_row(str(sequence), fact.time, fact.kind, visible(sentence(fact)))
    out.print(rows)
    findings = [fact["findings"] for fact in document["facts"] if fact.get("findings")]
    print_findings(findings[-1] if findings else (), out)
    fold = document["fold"]
    if fold is None:
        for fact in document["facts"][-1:]:
            if fact.get("hint"):
                out.print(f"hint: {visible(fact['hint'])}")
        return
    out.print("")
    out.print(field_table(_fold_fields(fold)))
    if (front := pareto_table(fold["weighing"])) is not None:
        out.print("\nWeights that no other weight beats, by the fit", style="bold")
        out.print(front)
    if fold["groups"]:
        out.print("\nPer layer group", style="bold")
        out.print(drift_table(fold["groups"]))


def _fold_fields(fold: Mapping[str, Any]) -> list[tuple[str, str]]:
    moved = f"{bytes_text(fold['bytes_read'])}, {bytes_text(fold['bytes_written'])}"
    return [
        ("generation", str(fold["generation"])),
        ("kind, weight", f"{fold['contribution_kind']}, {fold['weight']:g}"),
        *([("profile", _factors(fold["profile"]))] if fold.get("profile") else []),
        ("content", fold["content"]),
        (
            "norm",
            f"{number_text(fold['norm'])}, {percent_text(fold['relative_norm'])} of the base's matrices",
        ),
        ("read, written", f"{moved} in {seconds_text(fold['seconds'])}"),
        *weighing_fields(fold["weighing"]),
        *protection_fields(fold["protection"]),
        *(("warning", warning) for warning in fold["warnings"]),
    ]


def _factors(profile: Mapping[str, float]) -> str:
    return ", ".join(f"{visible(pattern)}: {factor:g}" for pattern, factor in sorted(profile.items()))


def _print_version(document: Mapping[str, Any]) -> None:
    out, manifest = console(), document["manifest"]
    contributions = manifest.get("contributions", [])[-_CONTRIBUTIONS_SHOWN:]
    out.print(f"v{document['version']:06d}", style="bold")
    fields = [("path", document["path"]), ("digest", document["digest"])]
    fields += [
        (name, str("-" if manifest.get(key) is None else manifest[key])) for name, key in _MANIFEST_SHOWN.items()
    ]
    if "round" in manifest:
        _print_round(fields, manifest)
        return
    fields += scale_fields(manifest.get("scale"))
    out.print(field_table(fields))
    rows = table("generation", "name", "kind", "norm", "cosine", "kept", right=("generation", "norm", "cosine", "kept"))
    for entry in contributions:
        rows.add_row(
            str(entry["generation"]), visible(entry["name"]), entry["kind"], number_text(entry["norm"]),
            number_text(entry["cosine"]), percent_text(entry["share_kept"]),
        )  # fmt: skip
    out.print(f"\nThe newest {len(contributions)} contributions", style="bold")
    out.print(rows)


def _print_round(fields: list[tuple[str, str]], manifest: Mapping[str, Any]) -> None:
    """A version that was trained and mixed: the round, and whose models went in."""
    out, about = console(), manifest["round"]
    kept = [(name, text) for name, text in fields if name in ("path", "digest", "base")]
    kept += [("content", manifest["content"]), ("round", f"{about['number']}, epoch {about['epoch']}")]
    kept += [(f"scores, {when}", number_fields(scores)) for when, scores in sorted(about["scores"].items())]
    kept += [("training", number_fields(about["metrics"]))] if about["metrics"] else []
    out.print(field_table(kept))
    rows = table("node", "epoch", "share", "model", right=("epoch", "share"))
    rows.add_row("this one", str(about["epoch"]), percent_text(about["own_weight"]), about["root"][:16])
    for entry in manifest["parents"]:
        rows.add_row(entry["node"][:8], str(entry["epoch"]), percent_text(entry["weight"]), entry["root"][:16])
    out.print(rows)


def number_fields(numbers: Mapping[str, float]) -> str:
    """Numbers by name on one line."""
    return ", ".join(f"{visible(name)} {number_text(value)}" for name, value in sorted(numbers.items()))
