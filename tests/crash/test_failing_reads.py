"""Reads that fail, end early or come in pieces: of the contribution, the base, the statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.support.crash_checks import faults_visible, latest_of
from tests.support.crash_story import Ordeal, Story, told

pytestmark = pytest.mark.slow

FILES = {
    "contribution": ("preadv world/registries/one/",),
    "base": ("preadv world/base/",),
    "statistics": ("preadv state/statistics/", "read state/statistics/"),
}
EVERYTHING = ("preadv world/", *FILES["statistics"], "preadv state/replaying/", "read state/replaying/")
MOST_STARTS = 6


def reads(story: Story, part: str, prefixes: Sequence[str]) -> list[str]:
    """The reads of an undisturbed node, by name and occurrence; their order may vary, their names do not."""
    answer = story.start(story.site(part), None)
    return sorted(label for label in answer["reads"] if label.startswith(tuple(prefixes)))


def disturb(story: Story, part: str, labels: Sequence[str], how: str) -> tuple[set[str], list[str]]:
    """One node whose reads of these labels go wrong, started until it is done."""
    ordeal = Ordeal.begin(story, part)
    fired: set[str] = set()
    for _ in range(MOST_STARTS):
        floor = latest_of(ordeal.site)
        answer = story.start(ordeal.site, {"fail": sorted(set(labels) - fired), "reads": how})
        fired |= set(answer["fired"])
        ordeal.killed += [f"{how} {label}" for label in answer["fired"]]
        if answer["status"] == 2 and not answer["hint"]:
            ordeal.faults.append(f"no hint: {answer['message']}")
        if answer["status"] not in (0, 1, 2):
            ordeal.faults.append(f"ended with {answer}")
        ordeal.faults += faults_visible(ordeal.site, ordeal.truth, floor)
        if answer["status"] == 0:
            break
    return fired, ordeal.finish()


@pytest.mark.parametrize("how", ["fail", "end", "short"])
@pytest.mark.parametrize("what", FILES)
def test_a_read_that_goes_wrong_is_repeated_and_changes_nothing(story: Story, what: str, how: str) -> None:
    labels = reads(story, "dense", FILES[what])
    assert len(labels) >= 4

    results = story.runners.map(lambda label: disturb(story, "dense", [label], how), labels)

    faults = [fault for _, found in results for fault in found]
    assert not faults, told(faults)
    assert set().union(*(fired for fired, _ in results)) == set(labels)


@pytest.mark.parametrize(("kind", "part", "how"), [
    ("summing", "dense", "fail"),
    ("summing", "dense", "end"),
    ("summing", "retract", "fail"),
    ("summing", "retract", "end"),
    ("replaying", "rollback", "end"),
    ("replaying", "retract", "fail"),
])  # fmt: skip
def test_several_statistics_and_contributions_that_leave(
    stories: Callable[[str], Story], kind: str, part: str, how: str
) -> None:
    """Every fifth read of a fold, a subtraction, a replay and the exports after them goes wrong."""
    story = stories(kind)
    labels = reads(story, part, EVERYTHING)[::5]
    assert len(labels) >= 6

    results = story.runners.map(lambda label: disturb(story, part, [label], how), labels)

    faults = [fault for _, found in results for fault in found]
    assert not faults, told(faults)
    assert set().union(*(fired for fired, _ in results)) == set(labels)


@pytest.mark.parametrize("what", ["base", "statistics"])
def test_what_fails_for_all_lets_no_contribution_overtake_another(story: Story, what: str) -> None:
    """The base or the node's own disk cannot be read for a while: the merge keeps the order of arrival."""
    labels = [label for label in reads(story, "whole", FILES[what]) if label.endswith(("#4", "#7", "#9", "#12"))]
    assert labels

    results = story.runners.map(lambda label: disturb(story, "whole", [label], "fail"), labels)

    faults = [fault for _, found in results for fault in found]
    assert not faults, told(faults)
