"""The story of a node in parts, each killed and restarted on its own; every part starts where the one before ended."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.support.crash_checks import (
    Undisturbed,
    faults_at_end,
    faults_visible,
    files_of,
    finished_shards,
    latest_of,
    outcomes_of,
)
from tests.support.crash_parts import ALL_PARTS, Kind, Places
from tests.support.crash_runners import Answer, Runners
from tests.support.crash_world import Site, World, configure, make_site

EVERYTHING, AFTER = "everything", "after"
"""What an undisturbed node leaves of each part: with every version kept, and as nodes are configured here."""
KEPT = {EVERYTHING: 99, AFTER: 2}


@dataclass
class Story:
    """Sites in a scratch directory, cloned from the state in which an undisturbed node left each part."""

    scratch: Path
    world: World
    runners: Runners
    kind: Kind = field(default_factory=lambda: Kind({"name": "opcm"}))
    truths: dict[str, Undisturbed] = field(default_factory=dict)
    _number: int = 0

    @property
    def roots(self) -> dict[str, str]:
        return {str(self.world.root): "world/"}

    def site(self, part: str, **options: Any) -> Site:
        """A fresh site at the beginning of a part."""
        self._number += 1
        return self._begin(f"site-{self._number}", part, AFTER, **options)

    def _begin(self, folder: str, part: str, label: str, *, places: Places | None = None, **options: Any) -> Site:
        """``places``: see ``Ask.write``."""
        here, site = ALL_PARTS[part], Site(self.scratch / folder)
        options = {"method": self.kind.method, "snapshots": self.kind.snapshots, "gates": self.kind.gates, **options}
        if not here.after:
            return make_site(site.root, self.world, here.registries, **options)
        shutil.copytree(self.scratch / f"{label}-{here.after}", site.root, symlinks=True)
        (site.root / "log").unlink()
        configure(site, self.world, here.registries, **options)
        for number, ask in enumerate(here.asks):
            ask.write(site, number, places)
        return site

    def start(self, site: Site, plan: dict[str, Any] | None = None, *actions: str, **fields: Any) -> Answer:
        return self.runners.do(site.root, *(actions or ("run",)), plan=plan, roots=self.roots, **fields)

    def tell(self) -> None:
        """Run the story undisturbed and remember what it makes of each part."""
        for part in self.kind.parts:
            everything, kept = (self._undisturbed(part, label) for label in KEPT)
            truth = self.truths[part] = _truth_of(everything)
            assert bool(truth.snapshots) <= bool(self.kind.snapshots), truth.snapshots
            assert not (faults := faults_at_end(kept, truth)), faults

    def _undisturbed(self, part: str, label: str) -> Site:
        site = self._begin(f"{label}-{part}", part, label, keep=KEPT[label])
        answer = self.start(site, None, "run", "verify", replay=True)
        assert answer["status"] == 0 and answer["problems"] == [], answer
        return site

    def steps(self, part: str, **fields: Any) -> list[str]:
        """Every durable operation of an undisturbed node in this part, in order; ``/`` marks one that has a half."""
        site = self.site(part)
        answer = self.start(site, None, **fields)
        shutil.rmtree(site.root)
        return list(answer["ops"])


def _truth_of(everything: Site) -> Undisturbed:
    outcomes = outcomes_of(everything)
    versions = {path.name: files_of(path) for path in everything.published.iterdir() if path.name.startswith("v")}
    truth = Undisturbed(versions, outcomes)
    generations = {path.name for path in (everything.state / "statistics").iterdir()}
    assert truth.generation == max(generations), generations
    return replace(truth, snapshots=frozenset(generations - {truth.generation}))


@dataclass
class Ordeal:
    """One site on its way through kills: what is found wrong is collected, with the kills that led there."""

    story: Story
    part: str
    site: Site
    fields: dict[str, Any] = field(default_factory=dict)
    killed: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    resumed: int = 0

    @classmethod
    def begin(cls, story: Story, part: str, **fields: Any) -> Ordeal:
        return cls(story, part, story.site(part), fields)

    @property
    def truth(self) -> Undisturbed:
        return self.story.truths[self.part]

    def kill(self, plan: dict[str, Any]) -> bool:
        """Run until the plan kills the node; False when it ended before. Checks what readers see then."""
        floor = latest_of(self.site)
        answer = self.story.start(self.site, plan, **self.fields)
        if answer["status"] == -9 and "killed" in answer and not answer["late"]:
            self.killed.append(f"step {plan['kill_at']}: {answer['killed']}")
        elif answer["status"] != 0:
            self.faults.append(f"ended on its own: {_told(answer)}")
        self.faults += faults_visible(self.site, self.truth, floor)
        return answer["status"] == -9

    def finish(self, *, replay: bool = False) -> list[str]:
        """Run undisturbed to the end and compare everything; the site is removed. Returns all faults."""
        finished, plan = finished_shards(self.site)
        floor = latest_of(self.site)
        answer = self.story.start(self.site, None, "run", "verify", replay=replay, **self.fields)
        if answer["status"] != 0:
            self.faults.append(f"the next start ended: {_told(answer)}")
        elif answer["problems"]:
            self.faults.append(f"verify finds {answer['problems']}")
        else:
            self.faults += faults_at_end(self.site, self.truth)
            self.faults += faults_visible(self.site, self.truth, floor)
            self._check_resumed(finished, plan)
        shutil.rmtree(self.site.root)
        return [f"part {self.part!r}, killed at {self.killed}: {fault}" for fault in self.faults]

    def _check_resumed(self, finished: dict[str, tuple[int, int]], plan: str) -> None:
        """Shards that counted when the last fold of the part was killed are in its generation, untouched."""
        folder = self.site.state / "statistics" / self.truth.generation
        if not plan or not folder.is_dir() or (folder / "plan.json").read_text() != plan:
            return
        for name, before in finished.items():
            status = (folder / name).stat()
            self.resumed += 1
            if (status.st_ino, status.st_mtime_ns) != before:
                self.faults.append(f"{name} was finished and made again")


def kill_plans(steps: Sequence[str]) -> list[dict[str, Any]]:
    """A kill before every operation, and in the middle of every write. After one is before the next."""
    plans = [{"kill_at": number} for number in range(1, len(steps) + 1)]
    return plans + [{"kill_at": n, "half": True} for n, step in enumerate(steps, 1) if step.endswith("/")]


def some_plans(steps: Sequence[str], often: int, rare: int, seed: int = 0) -> list[dict[str, Any]]:
    """Every ``often``-th kill at a step in the state directory, every ``rare``-th where versions come and go."""
    publishing, other = [], []
    for plan in kill_plans(steps):
        (publishing if "published/" in steps[plan["kill_at"] - 1] else other).append(plan)
    return other[seed % often :: often] + publishing[seed % rare :: rare]


def kill_each(story: Story, part: str, plans: Sequence[dict[str, Any]], **fields: Any) -> tuple[list[str], int, int]:
    """One ordeal per plan. Returns all faults, how many nodes were killed, how many finished shards were kept."""

    def ordeal(plan: dict[str, Any]) -> tuple[list[str], int, int]:
        one = Ordeal.begin(story, part, **fields)
        one.kill(plan)
        faults = one.finish(replay=plan["kill_at"] % 16 == 0)
        return faults, len(one.killed), one.resumed

    results = story.runners.map(ordeal, plans)
    faults = [fault for found, _, _ in results for fault in found]
    return faults, sum(kills for _, kills, _ in results), sum(resumed for _, _, resumed in results)


def told(faults: Sequence[str], steps: Sequence[str] = ()) -> str:
    """A failure message: the first faults, and the numbered steps they speak of."""
    numbered = "\n".join(f"{number:4d}  {step}" for number, step in enumerate(steps, 1))
    return f"{len(faults)} faults:\n" + "\n".join(faults[:12]) + (f"\nsteps:\n{numbered}" if faults else "")


def _told(answer: Answer) -> str:
    keys = ("status", "late", "error", "message", "why", "killed")
    return str({key: answer[key] for key in keys if key in answer})
