"""The disk is full at every write, one after the other and several in one run; the bytes at the end are the same."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Sequence

import pytest

from tests.support.crash_checks import faults_visible, latest_of
from tests.support.crash_runners import Answer
from tests.support.crash_story import Ordeal, Story, told

pytestmark = pytest.mark.slow

TOGETHER = 4
"""Failures per run, far apart from each other. More in one piece of work, and its waits outlast a node's patience."""
MOST_STARTS = 2 * TOGETHER
NEVER_FULL = ("unlink", "rmdir", "sqlite close")


def writes(story: Story, part: str) -> list[str]:
    return [step.removesuffix(" /") for step in story.steps(part) if not step.startswith(NEVER_FULL)]


def how_it_ended(answer: Answer, number: int) -> str:
    """What is wrong with the end of a run whose disk was full; empty when it is as documented."""
    if answer["status"] == 0:
        return ""
    if answer["status"] != 2:  # once started, a node waits a failure out and is not to give up
        return f"ended with {answer}"
    words = {errno.ENOSPC: ("No space left", "full"), errno.EIO: ("Input/output error", "disk I/O error")}[number]
    clear = any(word in answer["message"] for word in words) and answer["hint"]
    return "" if clear else f"no clear message: {answer['message']!r}, {answer['hint']!r}"


def fail_together(
    story: Story, part: str, labels: Sequence[str], number: int, half: bool
) -> tuple[set[str], list[str]]:
    """One node whose writes of these labels fail, started until it is done. Returns what failed, and the faults."""
    ordeal = Ordeal.begin(story, part)
    fired: set[str] = set()
    for _ in range(MOST_STARTS):
        floor = latest_of(ordeal.site)
        plan = {"fail": sorted(set(labels) - fired), "errno": number, "fail_half": half}
        answer = story.start(ordeal.site, plan)
        fired |= set(answer.get("fired", ()))
        ordeal.killed += answer.get("fired", ())
        ordeal.faults += filter(None, [how_it_ended(answer, number)])
        ordeal.faults += faults_visible(ordeal.site, ordeal.truth, floor)
        if answer["status"] == 0 or ordeal.faults:
            break
    else:
        ordeal.faults.append(f"not done after {MOST_STARTS} starts")
    return fired, ordeal.finish()


@pytest.mark.parametrize(("kind", "part", "number", "half"), [
    ("opcm", "first", errno.ENOSPC, True),
    ("opcm", "dense", errno.ENOSPC, True),
    ("opcm", "dense", errno.EIO, False),
    ("opcm", "mixed", errno.ENOSPC, False),
    ("summing", "dense", errno.ENOSPC, True),
    ("summing", "retract", errno.ENOSPC, True),
    ("replaying", "rollback", errno.EIO, False),
    ("replaying", "retract", errno.ENOSPC, True),
])  # fmt: skip
def test_no_write_that_fails_loses_or_changes_anything(
    stories: Callable[[str], Story], kind: str, part: str, number: int, half: bool
) -> None:
    story = stories(kind)
    labels = writes(story, part)
    count = len(labels) // TOGETHER
    groups = [labels[start::count] for start in range(count)]

    results = story.runners.map(lambda group: fail_together(story, part, group, number, half), groups)
    reached = set().union(*(fired for fired, _ in results))
    # A failure early in a group may have moved a later one out of reach: those are tried alone, where none precedes.
    alone = [label for label in labels if label not in reached]
    results += story.runners.map(lambda label: fail_together(story, part, [label], number, half), alone)

    faults = [fault for _, found in results for fault in found]
    assert not faults, told(faults)
    assert set().union(*(fired for fired, _ in results)) == set(labels)


def test_the_reason_is_told(story: Story) -> None:
    """A full disk in the middle of a fold is waited out, and the log says what is full and what to do."""
    site = story.site("dense")
    label = next(step for step in writes(story, "dense") if step.startswith("pwrite state/folding/shard-00001"))

    answer = story.start(site, {"fail": [label]})

    assert answer["status"] == 0 and answer["fired"] == [label]
    log = (site.root / "log").read_text()
    assert '"disk_full"' in log and "no space left" in log
    shutil.rmtree(site.root)
