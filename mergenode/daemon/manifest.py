"""What a version says about itself: ``mergenode.json`` and the model card. Values in, values out.

Nothing here depends on the time, the machine or the node's name, so that nodes which folded the same contributions in
the same order publish the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mergenode.ledger.chain import model_digest
from mergenode.ledger.records import Admitted, Folded, Initialised, Member
from mergenode.types import Digest, Head

SCHEMA = "mergenode.version/1"
LISTED_CONTRIBUTIONS = 1000
"""A manifest names at most this many of the newest contributions; the ledger names all, ``lineage`` commits to all."""

_CARD_ROWS = 50
_ON_ONE_LINE = json.JSONEncoder(sort_keys=True, allow_nan=False)


def version_manifest(
    *, origin: Initialised, head: Head, version: int, dtype: str | None, scale: Mapping[str, Any],
    tensors: Mapping[str, Digest], contributions: Sequence[Member], parts: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The manifest of a version. ``contributions``: the newest, oldest first. ``dtype``: None keeps the base's.

    ``scale``: see ``ports.engine.ScaleReport``. ``parts``: of a union, what it is the sum of; then contributions are in
    canonical order, the first of them, and ``model`` tells whether two nodes publish the same.
    """
    union = {} if parts is None else {"parts": [dict(part) for part in parts], "model": model_digest(tensors)}
    newest = contributions[-1] if contributions else None
    return {
        "schema": SCHEMA,
        "version": version,
        "parent": version - 1 or None,
        "generation": head.generation,
        "base": origin.base,
        "method": {"name": origin.method, "options": dict(origin.options)},
        "dtype": dtype,
        "scale": dict(scale),
        "count": head.count,
        "totals": dict(head.totals),
        "lineage": head.lineage,
        "statistics": head.statistics,
        "contributions": [
            contribution_entry(member, in_union=bool(parts)) for member in contributions[-LISTED_CONTRIBUTIONS:]
        ],
        "groups": [dict(group) for group in newest.groups] if isinstance(newest, Folded) else [],
        "tensors": dict(tensors),
        **union,
    }


def version_json(manifest: Mapping[str, Any]) -> bytes:
    """``mergenode.json`` as it is written and digested: one line per contribution, tensor, option, keys sorted."""
    members = ",\n".join(f"  {json.dumps(key)}: {_lines(manifest[key])}" for key in sorted(manifest))
    return f"{{\n{members}\n}}\n".encode()


def _lines(value: Any) -> str:
    """A list or mapping with one line per member, everything else on one line. Raises ValueError for NaN."""
    flat = _ON_ONE_LINE.encode
    if isinstance(value, Mapping) and value:
        members = [f"    {json.dumps(key)}: {flat(value[key])}" for key in sorted(value)]
        return "{\n" + ",\n".join(members) + "\n  }"
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"    {flat(member)}" for member in value) + "\n  ]"
    return flat(value)


def contribution_entry(member: Member, *, in_union: bool = False) -> dict[str, Any]:
    """One contribution as a manifest lists it; what another node folded has no generation here."""
    whole = member.groups[0] if isinstance(member, Folded) and member.groups else {}
    entry = {
        "generation": member.generation if isinstance(member, Folded) else None,
        "name": member.name,
        "kind": member.contribution_kind,
        "content": member.content,
        "weight": member.weight,
        "norm": member.norm,
        "relative_norm": member.relative_norm,
        "share_kept": whole.get("share_kept"),
        "cosine": whole.get("cosine"),
    }
    if in_union and isinstance(member, Admitted):
        entry["origin"] = member.origin
    return {**entry, "profile": dict(member.profile)} if member.profile else entry


def model_card(manifest: Mapping[str, Any]) -> str:
    """README.md of a version: front matter that the hub understands, lineage as a table."""
    rows = [
        f"| {entry['generation'] or ''} | {_cell(entry['name'])} | {entry['kind']} | {_number(entry['norm'])} "
        f"| {_percent(entry['share_kept'])} | `{entry['content'][:23]}` |"
        for entry in manifest["contributions"][-_CARD_ROWS:]
    ]
    method = manifest["method"]
    # Lists of name patterns are for mergenode.json: here they would say more than a reader wants to know.
    plain = {key: value for key, value in sorted(method["options"].items()) if isinstance(value, int | float | str)}
    options = ", ".join(f"{key}={value}" for key, value in plain.items()) or "defaults"
    lines = [
        "---",
        "library_name: transformers",
        "tags:",
        "- merge",
        "- mergenode",
        "---",
        "",
        f"# Merged model, version {manifest['version']}",
        "",
        f"{manifest['count']} contributions merged into one base model by mergenode, method `{method['name']}` "
        f"({_cell(options)}).",
        "",
        f"- base: `{manifest['base']}`",
        f"- lineage: `{manifest['lineage']}`",
        "- every tensor's digest: `mergenode.json`",
        "",
        f"## Contributions (the newest {len(rows)} of {manifest['count']})",
        "",
        "| generation | name | kind | norm of the update | share kept | content |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text from outside inside a Markdown table: no pipes, no markup, no line breaks."""
    return "".join(char if char.isalnum() or char in " ._-=,+@" else "?" for char in str(text))[:120]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"
