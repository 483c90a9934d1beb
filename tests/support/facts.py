"""Facts for tests: every field has a plausible value, a test names only those it is about."""

from __future__ import annotations

from typing import Any

from mergenode.ledger.records import (
    Admitted,
    Deferred,
    Deselected,
    Discovered,
    Duplicate,
    Folded,
    Forgotten,
    Heard,
    Initialised,
    Mixed,
    Pruned,
    Published,
    Quarantined,
    Rejected,
    Released,
    Restated,
    Retracted,
    Ruled,
    Scored,
    Selected,
    United,
    Yielded,
)
from mergenode.ledger.selection import pool_digest
from mergenode.types import Digest

TIME = "2026-01-02T03:04:05Z"
NODE = "00000000-0000-0000-0000-00000000000a"


def digest(number: int) -> Digest:
    return Digest(f"blake3:{number:064x}")


def initialised(**changes: Any) -> Initialised:
    fields = {"time": TIME, "ledger_id": "a1", "base": digest(0), "method": "opcm", "options": {"alpha": 0.5}}
    return Initialised(**fields | changes)


def discovered(number: int = 1, **changes: Any) -> Discovered:
    return Discovered(**_contribution(number) | {"location": f"/inbox/m{number}", "size_bytes": 9} | changes)


def rejected(number: int = 1, **changes: Any) -> Rejected:
    fields = {"reason": "not_finite", "message": "NaN in a.weight", "hint": "train again", "content": None}
    return Rejected(**_contribution(number) | fields | changes)


def duplicate(number: int = 1, **changes: Any) -> Duplicate:
    return Duplicate(**_contribution(number) | {"content": digest(1), "same_as": "m1"} | changes)


def folded(number: int = 1, **changes: Any) -> Folded:
    """The ``number``-th fold of a ledger."""
    fields = {
        "generation": number,
        "location": f"/inbox/m{number}",
        "content": digest(number),
        "contribution_kind": "full",
        "weight": 1.0,
        "count": number,
        "totals": {"norm_sum": 0.1 * number, "merge_sq": 2.0},
        "statistics": digest(1000 + number),
        "lineage": digest(2000 + number),
        "norm": 1.5,
        "relative_norm": 0.01,
        "groups": ({"group": "*", "cosine": None, "parameters": 12},),
    }
    return Folded(**_contribution(number) | fields | changes)


def published(version: int = 1, **changes: Any) -> Published:
    fields = {"version": version, "generation": version, "digest": digest(3000 + version)}
    return Published(**{"time": TIME, "path": f"published/v{version:06d}"} | fields | changes)


def pruned(*versions: int) -> Pruned:
    return Pruned(time=TIME, versions=versions)


def retracted(number: int = 1, **changes: Any) -> Retracted:
    return Retracted(**_contribution(number) | {"content": digest(number), "why": "asked"} | changes)


def quarantined(number: int = 1, **changes: Any) -> Quarantined:
    fields = {
        "content": digest(number),
        "gate": "norm",
        "reason": "norm_above_median",
        "message": "far from the others",
    }
    return Quarantined(**_contribution(number) | fields | {"location": f"/inbox/m{number}"} | changes)


def released(number: int = 1, **changes: Any) -> Released:
    return Released(
        **_contribution(number) | {"content": digest(number), "who": "ops", "why": "looked at it"} | changes
    )


def admitted(number: int = 1, **changes: Any) -> Admitted:
    fields = {
        "origin": "b2",
        "location": f"/other/m{number}",
        "content": digest(number),
        "contribution_kind": "full",
        "weight": 1.0,
        "norm": 1.5,
        "relative_norm": 0.01,
    }
    return Admitted(**_contribution(number) | fields | changes)


def restated(generation: int, count: int, **changes: Any) -> Restated:
    fields = {
        "generation": generation,
        "count": count,
        "totals": {"count": float(count)},
        "statistics": digest(1000 + generation),
        "lineage": digest(2000 + generation),
        "how": "subtracted",
    }
    return Restated(**{"time": TIME} | fields | changes)


def mixed(number: int = 0, **changes: Any) -> Mixed:
    """The ``number``-th round of a node."""
    parent = {"node": "ab" * 16, "root": "cd" * 32, "epoch": number, "weight": 0.25, "distance": 1.5, "cosine": None}
    fields = {
        "number": number,
        "epoch": number,
        "root": "ef" * 32,
        "content": digest(4000 + number),
        "own_weight": 0.75,
        "parents": (parent | {"clipped": 1.0},),
        "refused": ({"node": "01" * 16, "root": "23" * 32, "code": "not_finite", "message": "NaN in a.weight"},),
        "seconds": {"train": 1.5, "collect": 0.5},
    }
    return Mixed(**{"time": TIME} | fields | changes)


def yielded(number: int = 1, **changes: Any) -> Yielded:
    fields = {"content": digest(number), "keeper": NODE, "location": f"/inbox/m{number}", "weight": 1.0}
    return Yielded(**_contribution(number) | fields | changes)


def deselected(number: int = 1, **changes: Any) -> Deselected:
    return Deselected(**_contribution(number) | {"content": digest(number), "weight": 0.5} | changes)


def scored(version: int = 1, **scores: float) -> Scored:
    """``english=0.9, ...`` of a version."""
    return Scored(time=TIME, version=version, generation=version, scores=scores or {"english": 0.9}, seconds=1.5)


def selected(**weights: float) -> Selected:
    """A selection of ``m1=0.5, ...``: contributions by name, contents by their numbers."""
    numbers = {int(name[1:]): weight for name, weight in weights.items()}
    return Selected(
        time=TIME,
        objective="blake2b:01",
        pool=pool_digest([digest(number) for number in numbers]),
        size=len(numbers),
        rounds=2,
        stopped="gap",
        loss=0.25,
        gap=0.001,
        losses=(0.5, 0.3, 0.25),
        gaps=(0.4, 0.1, 0.001),
        weights={"*": {digest(number): weight for number, weight in numbers.items() if weight}},
        target=tuple(
            {"content": digest(number), "registry": "inbox", "name": f"m{number}", "revision": f"r{number}",
             "weight": weight, "profile": {}}
            for number, weight in numbers.items() if weight
        ),
        contents=tuple(
            {"content": digest(number), "registry": "inbox", "name": f"m{number}", "score": -0.1 * weight,
             "share": weight, "norm": 1.5, "why": "chosen" if weight else "useless"}
            for number, weight in numbers.items()
        ),
        counts={"chosen": sum(1 for weight in numbers.values() if weight)},
    )  # fmt: skip


def deferred(number: int = 1, **changes: Any) -> Deferred:
    fields = {"content": digest(number), "keeper": NODE, "location": f"/inbox/m{number}", "weight": 1.0}
    return Deferred(**_contribution(number) | fields | changes)


def united(generation: int, count: int, **changes: Any) -> United:
    fields = {
        "generation": generation,
        "count": count,
        "totals": {"count": float(count)},
        "statistics": digest(1000 + generation),
        "lineage": digest(2000 + generation),
        "how": "united",
        "parts": ({"node": NODE, "count": count},),
    }
    return United(**{"time": TIME} | fields | changes)


def heard(seq: int = 1, **changes: Any) -> Heard:
    fields = {
        "registry": "peers", "name": NODE, "revision": "ab" * 32, "incarnation": 1, "seq": seq, "generation": 2,
        "count": 3, "statistics": digest(5), "lineage": digest(6),
    }  # fmt: skip
    return Heard(**{"time": TIME} | fields | changes)


def ruled(number: int = 1, **changes: Any) -> Ruled:
    fields = {"content": digest(1), "number": number, "node": NODE, "said": TIME, "why": "asked"}
    return Ruled(**{"time": TIME} | fields | changes)


def forgotten(**changes: Any) -> Forgotten:
    return Forgotten(**{"time": TIME, "node": NODE, "incarnation": 2, "why": "its disk is gone"} | changes)


def _contribution(number: int) -> dict[str, Any]:
    return {"time": TIME, "registry": "inbox", "name": f"m{number}", "revision": f"r{number}"}
