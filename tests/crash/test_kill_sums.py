"""``kill -9`` while a method with several statistics per weight folds, and exports by a decomposition per matrix."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
from safetensors import safe_open

from tests.support.crash_story import Story, kill_each, some_plans, told
from tests.support.crash_world import SHAPES

pytestmark = pytest.mark.slow

Stories = Callable[[str], Story]


def test_every_matrix_has_several_statistics_of_other_shapes(stories: Stories) -> None:
    site = stories("summing").site("dense")
    shapes: dict[str, list[tuple[int, ...]]] = {name: [] for name in SHAPES}
    for shard in sorted((site.state / "statistics").rglob("shard-*.safetensors")):
        with safe_open(shard, "np") as file:
            for key in file.keys():  # noqa: SIM118 - not a mapping
                name = next(name for name in SHAPES if key.endswith(name))
                shapes[name].append(tuple(file.get_slice(key).get_shape()))
    for name in ("embed.weight", "layers.0.proj.weight", "layers.1.proj.weight"):
        assert len(shapes[name]) >= 3, shapes
        assert set(shapes[name]) > {SHAPES[name]}, shapes
    shutil.rmtree(site.root)


@pytest.mark.parametrize("part", ["first", "dense", "mixed"])
def test_killed_at_every_third_step_the_next_start_ends_where_an_undisturbed_node_ends(
    stories: Stories, part: str
) -> None:
    story = stories("summing")
    steps = story.steps(part)
    plans = some_plans(steps, 3, 3, seed=len(part))

    faults, kills, resumed = kill_each(story, part, plans)

    assert not faults, told(faults, steps)
    assert kills == len(plans) > 40, f"{kills} of {len(plans)} nodes were killed"
    assert part == "mixed" or resumed > 5, "no fold was taken up after a finished shard"
