"""``kill -9`` while contributions leave the merge: subtracted, replayed from a snapshot, replayed from the base."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable

import pytest

from tests.support.crash_parts import RETRACT
from tests.support.crash_story import Ordeal, Story, kill_each, some_plans, told

pytestmark = pytest.mark.slow

Stories = Callable[[str], Story]

CHAINS, MOST_KILLS = 3, 8
RECOVERY_STEPS = 10

HOW = {
    ("replaying", "rollback"): ("replayed", 2),
    ("replaying", "retract"): ("replayed", 0),
    ("summing", "rollback"): ("subtracted", None),
    ("summing", "retract"): ("subtracted", None),
    ("summing", "nothing left"): ("replayed", 0),
}
"""How each of these is carried out, and from which generation."""

UNFINISHED = {
    "a finished replay, renamed and not committed": ("replaying", "retract", r"fsync state/statistics "),
    "a replay between two contributions": ("replaying", "retract", r"rmdir state/replaying/.g00000001.removing"),
    "a committed replay, its scratch half removed": ("replaying", "rollback", r"rmdir state/.replaying.removing/"),
    "a finished subtraction, renamed and not committed": ("summing", "retract", r"fsync state/statistics "),
    "carried out, and the request still there": ("summing", "retract", r"unlink state/changes/"),
    "the request gone, its directory not synced": ("summing", "rollback", r"fsync state/changes"),
}


@pytest.mark.parametrize(("kind", "part"), HOW)
def test_killed_at_any_step_the_request_is_carried_out_once_and_exactly(stories: Stories, kind: str, part: str) -> None:
    story = stories(kind)
    (*_, restated) = story.truths[part].outcomes.restated
    assert restated[2:4] == HOW[kind, part]
    steps = story.steps(part)
    plans = some_plans(steps, 1 if part == "retract" else 3, 6, seed=len(part))

    faults, kills, resumed = kill_each(story, part, plans)

    assert not faults, told(faults, steps)
    assert kills == len(plans) > (90 if part == "retract" else 20), f"{kills} of {len(plans)} nodes were killed"
    assert part != "retract" or resumed > 10, "nothing was taken up after a finished shard"


@pytest.mark.parametrize("kind", ["replaying", "summing"])
@pytest.mark.parametrize("seed", range(CHAINS))
def test_chains_of_kills_while_two_requests_wait(stories: Stories, kind: str, seed: int) -> None:
    story, draw = stories(kind), random.Random(seed)
    total = len(story.steps("both"))
    ordeal = Ordeal.begin(story, "both")

    for _ in range(MOST_KILLS):
        bound = draw.choice((15, total // 2, total))
        if not ordeal.kill({"kill_at": draw.randint(1, bound), "half": draw.random() < 0.3}):
            break

    faults = ordeal.finish(replay=True)
    assert not faults, f"seed {seed}: {told(faults)}"
    assert ordeal.killed


@pytest.mark.parametrize("what", UNFINISHED)
def test_recovery_can_be_killed_at_every_step(stories: Stories, what: str) -> None:
    kind, part, pattern = UNFINISHED[what]
    story = stories(kind)
    steps = story.steps(part)
    first = next(number for number, step in enumerate(steps, 1) if re.match(pattern, step))

    def ordeal(second: int) -> list[str]:
        one = Ordeal.begin(story, part)
        one.kill({"kill_at": first})
        one.kill({"kill_at": second})
        return one.finish()

    faults = [fault for found in story.runners.map(ordeal, range(1, RECOVERY_STEPS + 1)) for fault in found]
    assert not faults, told(faults, steps)


def test_a_replay_goes_on_after_the_last_contribution_that_was_folded(stories: Stories) -> None:
    story = stories("replaying")
    steps = story.steps("retract")
    done = next(n for n, step in enumerate(steps, 1) if "-> state/replaying/g00000002" in step)
    site = story.site("retract")
    assert story.start(site, {"kill_at": done + 3})["status"] == -9
    (site.root / "log").unlink()

    assert story.start(site)["status"] == 0

    log = (site.root / "log").read_text()
    assert "2 of 2" in log and "1 of 2" not in log
    shutil.rmtree(site.root)


@pytest.mark.parametrize("kind", ["replaying", "summing"])
def test_a_request_that_arrives_in_the_middle_of_a_fold_goes_first(stories: Stories, kind: str) -> None:
    """The fold is killed, then the request is made: what was begun does not end up in the merge without its order."""
    story = stories(kind)
    steps = story.steps("last")
    begun = [number for number, step in enumerate(steps, 1) if " state/folding" in step and number % 3 == 0]

    def ordeal(number: int) -> list[str]:
        one = Ordeal(story, "before a fold", story.site("last"))
        one.kill({"kill_at": number})
        RETRACT.write(one.site, 0)
        return one.finish(replay=True)

    faults = [fault for found in story.runners.map(ordeal, begun) for fault in found]
    assert not faults, told(faults, steps)
    assert len(begun) > 8


@pytest.mark.parametrize(("kind", "part"), [("replaying", "retract"), ("summing", "retract")])
def test_the_power_fails_while_a_contribution_leaves(stories: Stories, kind: str, part: str) -> None:
    """Files with unsynced bytes come back empty."""
    story = stories(kind)
    steps = story.steps(part)
    plans = [{**plan, "power_loss": True} for plan in some_plans(steps, 5, 10) if not plan.get("half")]

    faults, kills, _ = kill_each(story, part, plans)

    assert not faults, told(faults, steps)
    assert kills == len(plans) > 10
