"""The power fails: the process is gone, and so is what was written and not synced."""

from __future__ import annotations

import pytest

from tests.support.crash_story import Story, kill_each, told

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("part", ["first", "dense"])
def test_what_counts_was_synced_before(story: Story, part: str) -> None:
    """Files with unsynced bytes come back empty. Renames are kept: the worst that a journalled file system does."""
    steps = story.steps(part)
    plans = [{"kill_at": number, "power_loss": True} for number in range(1, len(steps) + 1, 2)]

    faults, kills, _ = kill_each(story, part, plans)

    assert not faults, told(faults, steps)
    assert kills == len(plans)
