"""Do the kill tests see a defect? Each of these swaps two steps of the commit path; without a kill nothing shows."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.support.crash_story import Ordeal, Story, kill_each
from tests.support.crash_swaps import SWAPS

pytestmark = pytest.mark.slow

WHERE = {
    "append_before_install": ("opcm", "dense", r"rename state/folding|fsync state/statistics "),
    "retire_before_append": ("opcm", "dense", r"unlink state/statistics/.g00000001.removing|sqlite COMMIT"),
    "latest_before_rename": ("opcm", "dense", r"create published/.v000002.staging|rename published"),
    "rename_before_complete": ("opcm", "dense", r"create published/v000002"),
    "record_before_shard": ("opcm", "dense", r"pwrite state/folding/shard-"),
    "remove_in_place": ("opcm", "mixed", r"unlink published|rmdir published"),
    "shard_not_synced": ("opcm", "dense", r"pwrite state/folding/shard-|create state/folding/shard-"),
    "forget_request_first": ("summing", "retract", r"pwrite state/folding/shard-"),
}


def test_every_swap_is_tried() -> None:
    assert WHERE.keys() == SWAPS.keys()


@pytest.mark.parametrize("swap", WHERE)
def test_a_swap_shows_under_kills_and_only_there(stories: Callable[[str], Story], swap: str) -> None:
    kind, part, pattern = WHERE[swap]
    story = stories(kind)
    power_loss = swap == "shard_not_synced"
    steps = story.steps(part, swaps=[swap])
    plans = [
        {"kill_at": number, "power_loss": power_loss} for number, step in enumerate(steps, 1) if re.match(pattern, step)
    ]
    assert plans, f"no step of {swap} matches {pattern}:\n" + "\n".join(steps)

    undisturbed = Ordeal.begin(story, part, swaps=[swap]).finish()
    faults, _, _ = kill_each(story, part, plans, swaps=[swap])

    assert not undisturbed, f"{swap} shows without a kill: {undisturbed}"
    assert faults, f"{swap} was not noticed under {len(plans)} kills"
