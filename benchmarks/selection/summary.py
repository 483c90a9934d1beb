"""From the records of all seeds to means and standard errors. Pure: dictionaries in, dictionaries out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import fmean, stdev
from typing import Any

Record = Mapping[str, Any]


def summarise(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One row per way to choose, pool and screen: mean accuracy over seeds and its standard error.

    Experts of the same task count as one row. ``error`` is None with a single seed.
    """
    groups: dict[tuple[str, str, int, int, str], list[Record]] = {}
    for record in records:
        pool = record["pool"]
        # A pool without others is the same whatever kind of others it has none of.
        kind = pool["kind"] if pool["others"] else ""
        label = record["label"].rsplit("-", 1)[0] if record["label"].startswith("expert ") else record["label"]
        groups.setdefault((label, kind, pool["relevant"], pool["others"], record["screen"]), []).append(record)
    return [_row(key, found) for key, found in sorted(groups.items())]


def _row(key: tuple[str, str, int, int, str], found: Sequence[Record]) -> dict[str, Any]:
    label, kind, relevant, others, screen = key
    row: dict[str, Any] = {"label": label, "kind": kind, "relevant": relevant, "others": others, "screen": screen}
    scored = [record for record in found if "accuracy" in record]
    row["seeds"] = sorted(record["seed"] for record in scored)
    row["missing"] = sorted(record["seed"] for record in found if "accuracy" not in record)
    if scored:
        accuracies = [record["accuracy"] for record in scored]
        row |= {"accuracy": fmean(accuracies), "error": standard_error(accuracies), "by_seed": accuracies}
        tasks = scored[0]["tasks"]
        row["tasks"] = {task: fmean(record["tasks"][task] for record in scored) for task in tasks}
    weights = [share_by_kind(record) for record in scored if "gaps" in record]
    if weights:
        kinds = sorted({kind for shares in weights for kind in shares})
        row["weight_on"] = {kind: fmean(shares.get(kind, 0.0) for shares in weights) for kind in kinds}
        row["rounds"] = fmean(len(record["gaps"]) for record in scored)
        row["stops"] = sorted(record["stop"] for record in scored)
        row["last_gap"] = fmean(record["gaps"][-1] for record in scored)
    return row


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean; None for a single value."""
    return stdev(values) / sqrt(len(values)) if len(values) > 1 else None


def share_by_kind(record: Record) -> dict[str, float]:
    """How the barycentric weight lies on kinds of candidates, mean over groups; the base has the rest."""
    shares: dict[str, float] = {}
    groups = record["weights"]
    for of_group in groups.values():
        for name, weight in of_group.items():
            kind = record["kinds"][name]
            shares[kind] = shares.get(kind, 0.0) + weight / len(groups)
    return shares


def differences(records: Sequence[Record]) -> list[dict[str, Any]]:
    """With all irrelevant ones against with none, seed by seed: the mean difference and the error of the accuracies."""
    told = []
    rows = summarise(records)
    keys = sorted({(row["label"], row["screen"]) for row in rows})
    for label, screen in keys:
        own = [row for row in rows if (row["label"], row["screen"]) == (label, screen) and row.get("by_seed")]
        clean = [row for row in own if row["relevant"] == 4 and not row["others"]]
        spoiled = [row for row in own if row["kind"] == "irrelevant" and row["others"] == 32]
        if clean and spoiled and clean[0]["seeds"] == spoiled[0]["seeds"]:
            told.append(_difference(clean[0], spoiled[0]))
    return told


def _difference(clean: Mapping[str, Any], spoiled: Mapping[str, Any]) -> dict[str, Any]:
    change = spoiled["accuracy"] - clean["accuracy"]
    error = clean["error"]
    return {
        "label": clean["label"],
        "screen": clean["screen"],
        "none": clean["accuracy"],
        "error": error,
        "irrelevant_32": spoiled["accuracy"],
        "change": change,
        "within_one_standard_error": None if error is None else abs(change) <= error,
    }
