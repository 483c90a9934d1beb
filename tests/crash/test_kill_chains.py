"""Killed, and killed again while it recovers: seeded chains over the whole story, and recovery step by step."""

from __future__ import annotations

import random
import re

import pytest

from tests.support.crash_checks import files_of, latest_of
from tests.support.crash_parts import WHOLE
from tests.support.crash_story import Ordeal, Story, told
from tests.support.crash_world import configure

pytestmark = pytest.mark.slow

CHAINS = 12
MOST_KILLS = 8
RECOVERY_STEPS = 10
"""More than any recovery below takes, the lock and the ledger's opening included."""

UNFINISHED = {
    "a finished fold, renamed and not committed": ("dense", r"fsync state/statistics "),
    "a committed fold, the generation before half removed": ("dense", r"rmdir state/statistics/.g00000001.removing"),
    "a version half staged": ("dense", r"fsync published/.v000002.staging/model-00002"),
    "a version in place, latest behind": ("dense", r"symlink v000002 -> published/.latest.new"),
    "latest moved, the version not recorded": ("dense", r"sqlite COMMIT #3"),
    "an old version half removed": ("mixed", r"rmdir published/.v000001.removing"),
    "an old version removed, not recorded": ("mixed", r"sqlite COMMIT #4"),
    "a rejected fold half removed": ("mixed", r"rmdir state/.folding.removing"),
}


@pytest.mark.parametrize("seed", range(CHAINS))
def test_a_chain_of_kills_ends_where_an_undisturbed_node_ends(story: Story, seed: int) -> None:
    draw = random.Random(seed)
    total = len(story.steps(WHOLE))
    ordeal = Ordeal.begin(story, WHOLE)

    for _ in range(MOST_KILLS):
        bound = draw.choice((15, total // 2, total))
        if not ordeal.kill({"kill_at": draw.randint(1, bound), "half": draw.random() < 0.3}):
            break

    faults = ordeal.finish(replay=True)
    assert not faults, f"seed {seed}: {told(faults)}"


@pytest.mark.parametrize("what", UNFINISHED)
def test_recovery_can_be_killed_at_every_step(story: Story, what: str) -> None:
    part, pattern = UNFINISHED[what]
    steps = story.steps(part)
    first = next(number for number, step in enumerate(steps, 1) if re.match(pattern, step))

    def ordeal(second: int) -> list[str]:
        one = Ordeal.begin(story, part)
        one.kill({"kill_at": first})
        one.kill({"kill_at": second})
        return one.finish()

    faults = [fault for found in story.runners.map(ordeal, range(1, RECOVERY_STEPS + 1)) for fault in found]
    assert not faults, told(faults, steps)


def test_a_version_in_place_is_recorded_before_anything_new_is_folded(story: Story) -> None:
    """Versions are due every three contributions; the last ones of ``--once`` are published early, and killed there."""

    def published(kill: bool) -> tuple[dict[str, str], list[str]]:
        site = story.site("dense", every=3)
        steps = story.start(site)["ops"] if not kill else []
        if kill:
            story.start(site, {"kill_at": record})
            assert latest_of(site) == "v000002"
        configure(site, story.world, ("one", "three"), every=3)
        answer = story.start(site, None, "run", "verify")
        assert answer["status"] == 0 and answer["problems"] == [], answer
        return files_of(site.published), steps

    record = 0
    undisturbed, steps = published(kill=False)
    record = max(number for number, step in enumerate(steps, 1) if step.startswith("sqlite COMMIT"))
    assert published(kill=True)[0] == undisturbed
