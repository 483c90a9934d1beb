"""README.md of a version that a round made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def round_card(manifest: Mapping[str, Any]) -> str:
    """Front matter that the hub understands, and whose models went in."""
    about = manifest["round"]
    rows = [
        f"| `{entry['node'][:8]}` | {entry['epoch']} | {100 * entry['weight']:.1f} % | `{entry['root'][:16]}` |"
        for entry in manifest["parents"]
    ]
    lines = [
        "---",
        "library_name: transformers",
        "tags:",
        "- merge",
        "- mergenode",
        "---",
        "",
        f"# Model of round {about['number']}, version {manifest['version']}",
        "",
        f"Trained by one node and mixed with the models of its neighbours by mergenode, epoch {about['epoch']}.",
        "",
        f"- base: `{manifest['base']}`",
        f"- content: `{manifest['content']}`",
        f"- own share: {100 * about['own_weight']:.1f} % of `{about['root'][:16]}`",
        "",
        "| node | epoch | share | model |",
        "|---|---|---|---|",
        *rows,
        "",
    ]
    return "\n".join(lines)
