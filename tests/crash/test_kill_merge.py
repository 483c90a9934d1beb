"""``mergenode merge`` killed at every step: its output is absent or whole, and the next run leaves nothing behind."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.crash_checks import files_of
from tests.support.crash_runners import Answer
from tests.support.crash_story import Story, kill_plans

pytestmark = pytest.mark.slow


def merge(story: Story, site: Path, method: str, plan: dict[str, Any] | None = None) -> Answer:
    models = [story.world.registry("one") / "a-dense", story.world.registry("two") / "b-adapter", story.world.requested]
    return story.runners.do(
        site, "merge", plan=plan, method=method, base=str(story.world.base), output=str(site / "out" / "merged"),
        models=[str(model) for model in models], roots=story.roots,
    )  # fmt: skip


@pytest.mark.parametrize("method", ["average", "opcm"])
def test_the_output_is_absent_or_whole(story: Story, scratch: Path, method: str) -> None:
    whole = scratch / f"merge-{method}"
    whole.mkdir()
    undisturbed = merge(story, whole, method)
    assert undisturbed["status"] == 0, undisturbed
    truth = files_of(whole / "out")

    def attempt(number_and_plan: tuple[int, dict[str, Any]]) -> list[str]:
        number, plan = number_and_plan
        site = scratch / f"merge-{method}-{number}"
        site.mkdir()
        killed = merge(story, site, method, plan)
        faults = [] if killed["status"] == -9 else [f"not killed: {killed}"]
        output = site / "out" / "merged"
        if output.exists():
            seen = {f"merged/{name}": digest for name, digest in files_of(output).items()}
            faults += [] if seen == truth else ["the output is visible and not whole"]
        else:
            again = merge(story, site, method)
            faults += [] if again["status"] == 0 else [f"the next run ended with {again}"]
            faults += [] if files_of(site / "out") == truth else [f"left behind {sorted(files_of(site / 'out'))}"]
        shutil.rmtree(site)
        return [f"killed at {plan} ({killed.get('killed')}): {fault}" for fault in faults]

    plans = kill_plans(undisturbed["ops"])
    results = story.runners.map(attempt, enumerate(plans))

    assert not [fault for faults in results for fault in faults]
    assert len(plans) > 30
