"""Files of a contribution are others, or become others, while it leaves: the merge stays, the request is answered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mergenode.adapters.store.change_requests import FolderChangeRequests
from mergenode.ledger.changes import Change
from tests.support.crash_checks import faults_at_end, faults_visible
from tests.support.crash_parts import RETRACT
from tests.support.crash_runners import Answer
from tests.support.crash_story import Story, some_plans, told
from tests.support.crash_taps import CHANGES
from tests.support.crash_world import Site, write_adapter, write_dense

pytestmark = pytest.mark.slow

Stories = Callable[[str], Story]

BEFORE, PART = "rollback", "retract"
FIRST = f"{0:020d}-00000000"
MOST_STARTS = 3
READ = {
    ("replaying", "f-asked"): "model.safetensors",
    ("replaying", "b-adapter"): "adapter_model.safetensors",
    ("summing", "a-dense"): "model.safetensors",
}
"""What is read for the request, by a node that replays and by one that subtracts."""


@dataclass
class Case:
    """A node that is asked to retract, and is told that a contribution's files are in a place of this case's own."""

    story: Story
    root: Path
    site: Site

    @classmethod
    def make(cls, story: Story, name: str, root: Path) -> Case:
        original = {"f-asked": story.world.requested, "a-dense": story.world.registry("one") / name}
        shutil.copytree(original.get(name, story.world.registry("two") / name), root / "moved")
        (write_adapter if name == "b-adapter" else write_dense)(root / "other", 99)
        return cls(story, root, story.site(PART, places={name: str(root / "moved")}))

    @property
    def moved(self) -> Path:
        return self.root / "moved"

    def start(self, plan: dict[str, Any] | None = None, *actions: str) -> Answer:
        roots = {**self.story.roots, str(self.root): "own/"}
        return self.story.runners.do(self.site.root, *(actions or ("run",)), plan=plan, roots=roots)

    def answers(self) -> list[str]:
        return sorted(path.name for path in (self.site.state / "changes").iterdir())

    def faults_of_refusal(self) -> list[str]:
        """What is wrong with the one answer, and with the node that did not change its merge. Takes the answer."""
        if (found := self.answers()) != [f"{FIRST}.refused"]:
            return [f"answered by {found}"]
        path = self.site.state / "changes" / found[0]
        answer = json.loads(path.read_bytes())
        path.unlink()
        unclear = not (answer["message"] and answer["hint"]) or answer.keys() != {"message", "hint"}
        return [f"no clear answer: {answer}"] * unclear + faults_at_end(self.site, self.story.truths[BEFORE])

    def remove(self) -> None:
        shutil.rmtree(self.site.root)
        shutil.rmtree(self.root)


@pytest.mark.parametrize(("kind", "name"), [("replaying", "b-adapter"), ("summing", "a-dense")])
def test_a_refusal_killed_at_any_step_is_given_once(stories: Stories, scratch: Path, kind: str, name: str) -> None:
    story = stories(kind)

    def wrong(number: int) -> Case:
        case = Case.make(story, name, scratch / f"wrong-{kind}-{number}")
        shutil.rmtree(case.moved)
        (case.root / "other").rename(case.moved)
        return case

    def attempt(number_and_plan: tuple[int, dict[str, Any]]) -> list[str]:
        number, plan = number_and_plan
        case = wrong(number)
        killed = case.start(plan)
        faults = [] if killed["status"] == -9 else [f"not killed: {killed}"]
        faults += faults_visible(case.site, story.truths[BEFORE], "v000005")
        ended = case.start(None, "run", "verify")
        faults += [] if ended["status"] == 0 and ended["problems"] == [] else [f"the next start: {ended}"]
        faults += case.faults_of_refusal()
        case.remove()
        return [f"killed at {plan} ({killed.get('killed')}): {fault}" for fault in faults]

    undisturbed = wrong(0)
    steps = undisturbed.start()["ops"]
    assert not undisturbed.faults_of_refusal()
    plans = some_plans(steps, 3, 3)
    results = story.runners.map(attempt, enumerate(plans, 1))

    faults = [fault for found in results for fault in found]
    assert not faults, told(faults, steps)
    assert len(plans) > 20


@pytest.mark.parametrize(("kind", "name"), READ)
def test_files_that_change_while_a_contribution_leaves(stories: Stories, scratch: Path, kind: str, name: str) -> None:
    """Either it was read as it was, or the merge stays as it is and the request is answered; never anything between."""
    story, file = stories(kind), READ[kind, name]
    case = Case.make(story, name, scratch / f"reads-{kind}-{name}")
    answer = case.start()
    assert answer["status"] == 0 and not faults_at_end(case.site, story.truths[PART])
    case.remove()
    labels = sorted(label for label in answer["reads"] if label.startswith("preadv own/moved/"))
    assert len(labels) >= 3, answer["reads"]

    def attempt(number_and_change: tuple[int, tuple[str, str]]) -> tuple[bool, list[str]]:
        number, (how, label) = number_and_change
        case = Case.make(story, name, scratch / f"change-{kind}-{name}-{number}")
        change = {"at": label, "how": how, "path": str(case.moved / file), "other": str(case.root / "other" / file)}
        answer = case.start({"change": change})
        faults = [] if answer["fired"] else ["the file was never changed"]
        for _ in range(MOST_STARTS):
            if answer["status"] == 1:
                answer = case.start()
        faults += [] if answer["status"] == 0 else [f"ended with {answer}"]
        refused = bool(case.answers())
        faults += case.faults_of_refusal() if refused else faults_at_end(case.site, story.truths[PART])
        if refused and how == "delete" and not faults:
            RETRACT.write(case.site, 1)
            again = case.start(None, "run", "verify")
            faults += [] if again["status"] == 0 and again["problems"] == [] else [f"asked again: {again}"]
            faults += faults_at_end(case.site, story.truths[PART])
        case.remove()
        return refused, [f"{how} at {label}: {fault}" for fault in faults]

    changes = [(how, label) for how in CHANGES for label in labels[:: 1 if how == "delete" else 2]]
    results = story.runners.map(attempt, enumerate(changes))

    faults = [fault for _, found in results for fault in found]
    assert not faults, told(faults)
    assert sum(refused for refused, _ in results) >= len(changes) / 2


@pytest.mark.parametrize("asker", ["is gone", "reads the answer"])
def test_what_was_refused_is_not_carried_out_after_a_kill(stories: Stories, scratch: Path, asker: str) -> None:
    """Killed between the answer and the removal of the request; then the right files are back."""
    story = stories("summing")
    case = Case.make(story, "a-dense", scratch / "answered")
    case.moved.rename(case.root / "right")
    (case.root / "other").rename(case.moved)
    steps = case.start()["ops"]
    removal = next(number for number, step in enumerate(steps, 1) if step.startswith("unlink state/changes/"))
    shutil.rmtree(case.site.root)
    case.site = story.site(PART, places={"a-dense": str(case.moved)})
    assert case.start({"kill_at": removal})["status"] == -9
    assert len(case.answers()) == 2
    shutil.rmtree(case.moved)
    (case.root / "right").rename(case.moved)
    if asker == "reads the answer":
        assert FolderChangeRequests(case.site.state).take_refusal(Change(FIRST))
        assert case.answers() == []

    assert case.start(None, "run", "verify")["problems"] == []

    faults = case.faults_of_refusal() if asker == "is gone" else faults_at_end(case.site, story.truths[BEFORE])
    assert not faults, told(faults, steps)
    case.remove()
