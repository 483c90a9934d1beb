"""``kill -9`` while versions are exported at a scale that is chosen then, and while they share what did not change."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.crash_parts import Kind
from tests.support.crash_runners import Runners
from tests.support.crash_story import Story, kill_each, told
from tests.support.crash_world import World

pytestmark = pytest.mark.slow

EXPORTING = re.compile(r"\S+ (state/\.exporting|state/\.?exported|published/\.v)")
"""Steps of an export: scratch, memory, staging."""


METHODS = {
    "norm_match": {"name": "iso", "scale": "norm_match", "include": ["*embed*"]},
    "shared": {"name": "task_arithmetic"},
}


@pytest.mark.parametrize("kind", METHODS)
def test_an_export_killed_anywhere_is_made_again_and_leaves_nothing(
    scratch: Path, runners: Runners, world: World, kind: str
) -> None:
    folder = scratch / f"exports-{kind}"
    folder.mkdir()
    story = Story(folder, world, runners, Kind(METHODS[kind]))
    story.tell()
    steps = story.steps("mixed")
    plans = [{"kill_at": number} for number, step in enumerate(steps, 1) if EXPORTING.match(step)]
    plans += [{**plan, "half": True} for plan in plans if steps[plan["kill_at"] - 1].endswith("/")]

    faults, kills, _ = kill_each(story, "mixed", plans)

    assert not faults, told(faults, steps)
    assert kills == len(plans) > 20
    wanted = "state/.exporting/update-" if kind == "norm_match" else "link published/"
    assert any(wanted in step for step in steps), steps
