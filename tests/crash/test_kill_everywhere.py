"""``kill -9`` before every durable operation and in the middle of every write, then one undisturbed start."""

from __future__ import annotations

import pytest

from tests.support.crash_story import Story, kill_each, kill_plans, told

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("part", ["first", "dense", "mixed"])
def test_killed_at_any_step_the_next_start_ends_where_an_undisturbed_node_ends(story: Story, part: str) -> None:
    steps = story.steps(part)
    plans = kill_plans(steps)

    faults, kills, resumed = kill_each(story, part, plans)

    assert not faults, told(faults, steps)
    assert kills == len(plans) > 100, f"{kills} of {len(plans)} nodes were killed"
    assert part == "mixed" or resumed > 20, "no fold was taken up after a finished shard"
