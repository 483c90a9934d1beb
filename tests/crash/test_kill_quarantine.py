"""``kill -9`` while a contribution is held back, let go, or dropped: the next start ends like an undisturbed node."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.crash_story import Story, kill_each, some_plans, told

pytestmark = pytest.mark.slow

Stories = Callable[[str], Story]


def test_the_story_is_the_one_that_is_meant(stories: Stories) -> None:
    truths = stories("gated").truths
    assert [truths[part].outcomes.quarantined for part in ("mixed", "last")] == [(), ("e-dense",)]
    released, dropped = truths["released"].outcomes, truths["dropped"].outcomes
    assert released.released == ("e-dense",) and "e-dense" in released.members
    assert "e-dense" in dropped.rejected and "e-dense" not in dropped.members


@pytest.mark.parametrize(("part", "often"), [("last", 2), ("released", 4), ("dropped", 1)])
def test_killed_at_any_step_it_ends_like_an_undisturbed_node(stories: Stories, part: str, often: int) -> None:
    story = stories("gated")
    steps = story.steps(part)
    plans = some_plans(steps, often, 2 * often, seed=1)

    faults, kills, _ = kill_each(story, part, plans)

    assert not faults, told(faults, steps)
    assert kills == len(plans) > 5
