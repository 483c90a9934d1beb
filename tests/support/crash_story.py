"""The story of a node in parts, each killed and restarted on its own; every part starts where the one before ended."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
from tests.support.crash_runners import Answer, Runners
from tests.support.crash_world import REGISTRIES, Site, World, configure, make_site

PARTS: dict[str, tuple[str, ...]] = {
    "first": (),
    "dense": ("one",),
    "mixed": ("one", "two"),
    "last": ("one", "two", "three"),
}
"""Registries that a node of this part watches. ``first``: a new state directory, and a request."""

WHOLE = "whole"
"""Everything at once, from an empty state directory."""


@dataclass
class Story:
    """Sites in a scratch directory, cloned from the state in which an undisturbed node left each part."""

    scratch: Path
    world: World
    runners: Runners
    method: Mapping[str, Any] = field(default_factory=lambda: {"name": "opcm"})
    truths: dict[str, Undisturbed] = field(default_factory=dict)
    _number: int = 0

    @property
    def roots(self) -> dict[str, str]:
        return {str(self.world.root): "world/"}

    def site(self, part: str, **options: Any) -> Site:
        """A fresh site at the beginning of a part."""
        self._number += 1
        options = {"method": self.method, **options}
        site = Site(self.scratch / f"site-{self._number}")
        if part == WHOLE:
            return make_site(site.root, self.world, REGISTRIES, **options)
        names = list(PARTS)
        if part == names[0]:
            return make_site(site.root, self.world, PARTS[part], **options)
        before = names[names.index(part) - 1]
        shutil.copytree(self.scratch / f"after-{before}", site.root, symlinks=True)
        (site.root / "log").unlink()
        configure(site, self.world, PARTS[part], **options)
        return site

    def start(self, site: Site, plan: dict[str, Any] | None = None, *actions: str, **fields: Any) -> Answer:
        return self.runners.do(site.root, *(actions or ("run",)), plan=plan, roots=self.roots, **fields)

    def tell(self) -> None:
        """Run the story undisturbed, with every version kept, and remember what it made of each part."""
        everything, kept = map(self._empty, ("everything", "kept"))
        for part, registries in PARTS.items():
            self._tell(part, registries, everything, kept)
            shutil.copytree(kept.root, self.scratch / f"after-{part}", symlinks=True)
        everything, kept = map(self._empty, ("everything-2", "kept-2"))
        self._tell(WHOLE, tuple(REGISTRIES), everything, kept)

    def _empty(self, name: str) -> Site:
        return make_site(self.scratch / name, self.world, method=self.method)

    def _tell(self, part: str, registries: tuple[str, ...], everything: Site, kept: Site) -> None:
        for site, keep in ((everything, 99), (kept, 2)):
            configure(site, self.world, registries, keep=keep, method=self.method)
            answer = self.start(site, None, "run", "verify")
            assert answer["status"] == 0 and answer["problems"] == [], answer
        folders = [path for path in everything.published.iterdir() if path.name.startswith("v")]
        truth = Undisturbed({path.name: files_of(path) for path in folders}, outcomes_of(everything))
        assert not (faults := faults_at_end(kept, truth)), faults
        self.truths[part] = truth

    def steps(self, part: str, **fields: Any) -> list[str]:
        """Every durable operation of an undisturbed node in this part, in order; ``/`` marks one that has a half."""
        site = self.site(part)
        answer = self.start(site, None, **fields)
        shutil.rmtree(site.root)
        return list(answer["ops"])


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
        generation = len(self.truth.outcomes.folded)
        folder = self.site.state / "statistics" / f"g{generation:08d}"
        if not plan or (folder / "plan.json").read_text() != plan:
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
