"""A contribution that changes while it is read: folded as what it was or as what it became, never as a mixture."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.adapters.registries.marker import write_marker
from tests.support.crash_checks import Files, files_of, outcomes_of
from tests.support.crash_story import Story
from tests.support.crash_taps import CHANGES
from tests.support.crash_world import Site, World, configure, write_dense

pytestmark = pytest.mark.slow

FILE = "model.safetensors"
OLD, NEW = 11, 12
READS = "preadv world/registries/own/x/"
MOST_STARTS = 3


@dataclass
class Case:
    """A node with one contribution of its own, and what that becomes while it is read."""

    root: Path
    world: World
    site: Site

    @property
    def path(self) -> Path:
        return self.world.registry("own") / "x"

    @property
    def roots(self) -> dict[str, str]:
        return {str(self.world.root): "world/"}


def make_case(root: Path, base: Path, *, marked: bool = False) -> Case:
    case = Case(root, World(root / "world"), Site(root / "site"))
    shutil.copytree(base, case.world.base)
    write_dense(case.path, OLD)
    write_dense(root / "other", NEW)
    if marked:
        write_marker(case.path, content=content_digest(case.path))
    case.site.root.mkdir()
    configure(case.site, case.world, ["own"], keep=9)
    return case


def become_new(case: Case) -> None:
    shutil.rmtree(case.path)
    shutil.copytree(case.root / "other", case.path)
    (case.path / FILE).touch()


@dataclass(frozen=True)
class Truth:
    """Published files by the contents that were folded, in order; nothing published for none."""

    old: str
    new: str
    published: dict[tuple[str, ...], Files]


@pytest.fixture(scope="module")
def truth(story: Story, scratch: Path) -> Iterator[Truth]:
    """What undisturbed nodes publish of the old contribution, of the new one, and of both."""
    root = scratch / "changing"
    both = make_case(root / "both", story.world.base)
    old, new = (str(content_digest(path)) for path in (both.path, both.root / "other"))
    assert story.start(both.site, None)["status"] == 0
    published = {(): {}, (old,): files_of(both.site.published)}
    become_new(both)
    assert story.start(both.site, None)["status"] == 0
    published[old, new] = files_of(both.site.published)
    only = make_case(root / "only", story.world.base)
    become_new(only)
    assert story.start(only.site, None)["status"] == 0
    published[new,] = files_of(only.site.published)
    yield Truth(old, new, published)
    shutil.rmtree(root)


def labels(story: Story, scratch: Path) -> list[str]:
    case = make_case(scratch / "labels", story.world.base)
    answer = story.runners.do(case.site.root, "run", roots=case.roots)
    shutil.rmtree(case.root)
    found = sorted(label for label in answer["reads"] if label.startswith(READS))
    assert len(found) >= 7, found
    return found


def faults_of(story: Story, case: Case, how: str, truth: Truth, allowed: set[tuple[str, ...]]) -> list[str]:
    """Start until the node is done or nothing changes any more, and compare what it folded and published."""
    answer = {"status": 1}
    for _ in range(MOST_STARTS):
        if answer["status"] == 0:
            break
        answer = story.runners.do(case.site.root, "run", roots=case.roots)
    folded = tuple(content for _, content, _ in outcomes_of(case.site).folded)
    found = []
    if answer["status"] not in (0, 1) or (answer["status"] == 1 and how != "truncate"):
        found.append(f"ended with {answer}")
    if folded not in allowed:
        names = {truth.old: "old", truth.new: "new"}
        found.append(f"folded {[names.get(content, 'a mixture') for content in folded]}")
    elif (files_of(case.site.published) if folded else {}) != truth.published[folded]:
        found.append("published something else than an undisturbed node")
    elif folded and story.runners.do(case.site.root, "verify")["problems"]:
        found.append("verify finds problems")
    return found


@pytest.mark.parametrize("marked", [False, True], ids=["settled", "marked"])
@pytest.mark.parametrize("how", CHANGES)
def test_a_change_at_any_read(story: Story, scratch: Path, truth: Truth, how: str, marked: bool) -> None:
    """A marker promises the old bytes, so with one nothing but those may ever be folded."""
    old, new = (truth.old,), (truth.new,)
    allowed = {(), old} if marked or how in ("truncate", "delete") else {new, (truth.old, truth.new), old}
    if not marked and how.startswith("rewrite"):
        allowed -= {old} if how == "rewrite" else set()

    def attempt(number_and_label: tuple[int, str]) -> list[str]:
        number, label = number_and_label
        case = make_case(scratch / f"change-{number}", story.world.base, marked=marked)
        change = {"at": label, "how": how, "path": str(case.path / FILE), "other": str(case.root / "other" / FILE)}
        answer = story.runners.do(case.site.root, "run", plan={"change": change}, roots=case.roots)
        faults = [] if answer["fired"] else ["the file was never changed"]
        faults += faults_of(story, case, how, truth, allowed)
        shutil.rmtree(case.root)
        return [f"{how} at {label}: {fault}" for fault in faults]

    results = story.runners.map(attempt, enumerate(labels(story, scratch)))

    assert not [fault for faults in results for fault in faults]


@pytest.mark.parametrize("how", ["rewrite unnoticed", "replace"])
def test_shards_of_the_old_bytes_are_not_taken_up_after_a_kill(
    story: Story, scratch: Path, truth: Truth, how: str
) -> None:
    """Killed half way; then the file holds other bytes under its old size and time stamp: same name, same revision."""
    case = make_case(scratch / "between", story.world.base)
    steps = story.runners.do(case.site.root, "run", roots=case.roots)["ops"]
    shutil.rmtree(case.site.state)
    shutil.rmtree(case.site.published)
    half = next(n for n, step in enumerate(steps, 1) if step.startswith("create state/folding/.shard-00001.json"))
    assert story.runners.do(case.site.root, "run", plan={"kill_at": half}, roots=case.roots)["status"] == -9
    assert (case.site.state / "folding" / "shard-00000.json").exists()

    CHANGES[how](str(case.path / FILE), str(case.root / "other" / FILE))

    assert not faults_of(story, case, how, truth, {(truth.new,)})
    shutil.rmtree(case.root)
