"""How much of a merge a version publishes, as commands show it."""

from __future__ import annotations

from typing import Any

from mergenode.cli.output import number_text


def scale_fields(scale: object) -> list[tuple[str, str]]:
    """Rows for a manifest's entry ``scale``; none for versions from before there was one."""
    if not isinstance(scale, dict) or "used" not in scale:
        return []
    others = f"own {number_text(scale.get('own'))}, norm rule {number_text(scale.get('norm_rule'))}"
    norms = f"{number_text(scale.get('update_norm'))}, contributions {number_text(scale.get('mean_norm'))} on average"
    rows = [("scale", f"{number_text(scale['used'])} ({others})"), ("norm of the update", norms)]
    points = _points(scale.get("evaluated"))
    return [*rows, ("scores by scale", points)] if points else rows


def _points(evaluated: object) -> str:
    """``scale: score`` by rising scale; says so when a search found nothing."""
    if not isinstance(evaluated, list):
        return ""
    pairs: list[Any] = sorted(evaluated)
    return ", ".join(f"{scale:.4g}: {score:.4g}" for scale, score in pairs) or "the search failed"
