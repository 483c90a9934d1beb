"""The parts of a node's story: what it watches, and what it is asked to take out of the merge."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field

from mergenode.adapters.store.sqlite_ledger import open_reader
from mergenode.ledger.changes import DROP, RELEASE
from tests.support.crash_world import REGISTRIES, Site

WHOLE = "whole"
"""Everything at once, from an empty state directory."""

Places = Mapping[str, str]
"""Name of a contribution -> where its files are now."""


@dataclass(frozen=True)
class Ask:
    """One request to change the merge: these contributions are to leave, or all that a version does not hold.

    ``quarantine``: what is decided about ``leaving`` instead, which are in quarantine.
    """

    leaving: tuple[str, ...] = ()
    rollback_to: int | None = None
    quarantine: str | None = None

    def write(self, site: Site, number: int, places: Places | None = None) -> str:
        """The request file as the commands leave it, under a name of its own; returns the request's id."""
        with closing(open_reader(site.state / "ledger.sqlite")) as reader:
            contents = {member.name: member.content for _, member in [*reader.members(), *reader.quarantine()]}
        document = {
            "contents": [contents[name] for name in self.leaving],
            "rollback_to": self.rollback_to,
            "why": "",
            "places": {contents[name]: place for name, place in (places or {}).items()},
            "quarantine": self.quarantine,
            "who": "ops",
        }
        folder = site.state / "changes"
        folder.mkdir(exist_ok=True)
        identity = f"{number:020d}-00000000"
        (folder / f"{identity}.json").write_text(json.dumps(document))
        return identity


@dataclass(frozen=True)
class Part:
    """``after``: the part at whose end it begins; empty: a new state directory, and a request to take one in."""

    after: str
    registries: tuple[str, ...]
    asks: tuple[Ask, ...] = ()


ROLLBACK, RETRACT = Ask(rollback_to=3), Ask(leaving=("a-dense",))

PARTS: dict[str, Part] = {
    "first": Part("", ()),
    "dense": Part("first", ("one",)),
    "mixed": Part("dense", ("one", "two")),
    "last": Part("mixed", ("one", "two", "three")),
    WHOLE: Part("", tuple(REGISTRIES)),
}
"""Contributions arrive; each part brings one more registry."""

LEAVING: dict[str, Part] = {
    "rollback": Part("last", tuple(REGISTRIES), (ROLLBACK,)),
    "retract": Part("rollback", tuple(REGISTRIES), (RETRACT,)),
    "both": Part("last", tuple(REGISTRIES), (ROLLBACK, RETRACT)),
    "before a fold": Part("mixed", tuple(REGISTRIES), (RETRACT,)),
    "nothing left": Part("mixed", ("one", "two"), (Ask(leaving=("f-asked", "a-dense", "b-adapter")),)),
}
"""Contributions leave again, the newest first, then one from the middle, though they lie in their registries."""

DECIDED: dict[str, Part] = {
    "released": Part("last", tuple(REGISTRIES), (Ask(leaving=("e-dense",), quarantine=RELEASE),)),
    "dropped": Part("last", tuple(REGISTRIES), (Ask(leaving=("e-dense",), quarantine=DROP),)),
}
"""Of nodes whose gates hold the last contribution back."""

ALL_PARTS = {**PARTS, **LEAVING, **DECIDED}


@dataclass(frozen=True)
class Kind:
    """A kind of node whose story is told: how it merges, which earlier statistics it keeps, which parts it lives.

    ``gates``: as in the settings.
    """

    method: Mapping[str, object]
    snapshots: Mapping[str, int] = field(default_factory=dict)
    parts: tuple[str, ...] = tuple(PARTS)
    gates: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


KINDS = {
    "opcm": Kind({"name": "opcm"}),
    "replaying": Kind({"name": "opcm"}, {"every": 2, "keep": 1}, (*PARTS, *LEAVING)),
    "summing": Kind({"name": "aswudi", "include": ["*embed*"]}, parts=(*PARTS, *LEAVING)),
    "gated": Kind(
        {"name": "task_arithmetic"}, parts=("first", "dense", "mixed", "last", *DECIDED),
        gates={"norm": {"action": "quarantine", "min_members": 3, "max_ratio": 1.0, "max_deviations": 0.0}},
    ),
}  # fmt: skip
"""``replaying`` goes back to a snapshot in one part and to the base in another; ``summing`` keeps several tensors per
weight, subtracts, and decomposes when it exports. ``gated`` holds the last contribution back: it is the longest."""
