"""The same contributions in the same order are the same files: whatever the threads, the place, the name, the kills."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.support.crash_checks import faults_at_end, files_of
from tests.support.crash_parts import WHOLE
from tests.support.crash_story import Ordeal, Story, told
from tests.support.crash_world import REGISTRIES, World, make_site

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("threads", [1, 2])
def test_another_node_in_another_place_publishes_the_same_files(story: Story, scratch: Path, threads: int) -> None:
    elsewhere = scratch / f"elsewhere-{threads}" / "on" / "another" / "disk"
    world = World(elsewhere / "world")
    shutil.copytree(story.world.root, world.root)
    site = make_site(elsewhere / "site", world, REGISTRIES, name=f"peer-{threads}", threads=threads)

    answer = story.runners.do(site.root, "run", "verify", replay=True)

    assert answer["status"] == 0 and answer["problems"] == []
    assert not faults_at_end(site, story.truths[WHOLE])
    assert files_of(site.published).keys() > {"v000004/mergenode.json", "v000004/model-00001-of-00002.safetensors"}


@pytest.mark.parametrize("seed", range(3))
def test_two_threads_and_kills_change_no_byte(story: Story, seed: int) -> None:
    draw = random.Random(seed)
    ordeal = Ordeal(story, WHOLE, story.site(WHOLE, threads=2, name="other"))
    total = len(story.steps(WHOLE))

    for _ in range(6):
        if not ordeal.kill({"kill_at": draw.randint(1, total // 2)}):
            break

    faults = ordeal.finish()
    assert not faults, f"seed {seed}: {told(faults)}"
    assert ordeal.killed
