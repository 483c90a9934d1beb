"""``mergenode combine`` killed, or out of disk, at every step: its output is absent or whole, the inputs unchanged."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mergenode.adapters.engines.local import shards
from mergenode.adapters.engines.local.check import check_generation
from mergenode.adapters.store.sqlite_ledger import open_reader
from tests.support.crash_checks import Files, files_of
from tests.support.crash_runners import Answer, Runners
from tests.support.crash_story import kill_plans
from tests.support.crash_world import SHARD_BYTES, Site, World, configure
from tests.support.ledgered_node import LedgeredNode

pytestmark = pytest.mark.slow

OPTIONS: dict[str, dict[str, object]] = {"average": {}, "aswudi": {"include": ["*embed*"]}}
NEVER_FULL = ("unlink", "rmdir", "sqlite close")


@dataclass
class Pair:
    """Two states, and how they are combined at a site of its own."""

    method: str
    states: tuple[Path, Path]
    statistics: tuple[Files, Files]
    world: World
    runners: Runners
    scratch: Path

    def combine(self, site: Path, plan: dict[str, Any] | None = None) -> Answer:
        site.mkdir(exist_ok=True)
        return self.runners.do(
            site, "combine", plan=plan, states=[str(state) for state in self.states], base=str(self.world.base),
            output=str(site / "out" / "state"),
        )  # fmt: skip

    def faults(self, site: Path, statistics: str) -> list[str]:
        """What is wrong with the output, if there is one, and with the inputs."""
        found = [] if self.statistics == inputs(self.states) else ["an input was changed"]
        state = site / "out" / "state"
        if not state.exists():
            return found
        with closing(open_reader(state / "ledger.sqlite")) as reader:
            found += reader.verify()
            head, names = reader.head(), [member.name for _, member in reader.members()]
        found += [] if names == ["a-dense", "f-asked", "b-adapter"] else [f"members {names}"]
        found += [] if head.statistics == statistics else ["other statistics"]
        found += check_generation(state / "statistics" / "g00000001", statistics, lambda name, nbytes: None)
        return found

    def published(self, site: Path) -> Files:
        """What a node publishes that is started on the output."""
        node = Site(site / "out")
        configure(node, self.world, (), method={"name": self.method, **OPTIONS[self.method]})
        answer = self.runners.do(node.root, "run", "verify")
        assert answer["status"] == 0 and answer["problems"] == [], answer
        return files_of(node.published / "v000001")


def inputs(states: tuple[Path, Path]) -> tuple[Files, Files]:
    return files_of(states[0] / "statistics"), files_of(states[1] / "statistics")


@pytest.fixture(scope="module", params=["average", "aswudi"])
def pair(request: pytest.FixtureRequest, scratch: Path, runners: Runners, world: World) -> Pair:
    """Of a method with one statistic per weight, and of one with several; those two share a contribution."""
    folder, options = scratch / f"combine-{request.param}", OPTIONS[request.param]
    dense, adapter = world.registry("one") / "a-dense", world.registry("two") / "b-adapter"
    shared = [world.requested] if request.param == "aswudi" else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_BYTES", SHARD_BYTES)
        a = LedgeredNode(folder / "a", world.base, request.param, options).take(dense, world.requested)
        b = LedgeredNode(folder / "b", world.base, request.param, options).take(adapter, *shared)
    states = (a.state, b.state)
    return Pair(request.param, states, inputs(states), world, runners, folder)


def ends_well(pair: Pair, site: Path, statistics: str, number: int, published: Files | None = None) -> list[str]:
    """What is there is whole. After every third fault: the next run makes what is not, and leaves nothing beside it."""
    faults = pair.faults(site, statistics)
    if number % 3:
        shutil.rmtree(site)
        return faults
    if not (site / "out" / "state").exists():
        again = pair.combine(site)
        faults += [] if again["status"] == 0 else [f"the next run ended with {again}"]
        faults += pair.faults(site, statistics)
    beside = [path.name for path in (site / "out").iterdir()]
    faults += [] if beside == ["state"] else [f"left behind {beside}"]
    if published is not None and number % 9 == 0 and pair.published(site) != published:
        faults.append("a node that is started on it publishes something else")
    shutil.rmtree(site)
    return faults


def test_killed_anywhere_the_state_is_absent_or_whole(pair: Pair) -> None:
    undisturbed = pair.combine(pair.scratch / "whole")
    assert undisturbed["status"] == 0, undisturbed
    truth = undisturbed["statistics"]
    published = pair.published(pair.scratch / "whole")
    assert published.keys() > {"mergenode.json", "model-00001-of-00002.safetensors"}

    def attempt(number_and_plan: tuple[int, dict[str, Any]]) -> list[str]:
        number, plan = number_and_plan
        site = pair.scratch / f"kill-{number}"
        killed = pair.combine(site, plan)
        faults = [] if killed["status"] == -9 else [f"not killed: {killed}"]
        faults += ends_well(pair, site, truth, number, published)
        return [f"killed at {plan} ({killed.get('killed')}): {fault}" for fault in faults]

    plans = kill_plans(undisturbed["ops"])[:: 1 if pair.method == "aswudi" else 2]
    results = pair.runners.map(attempt, enumerate(plans))

    assert not [fault for faults in results for fault in faults]
    assert len(plans) > 40


def test_every_write_may_find_the_disk_full(pair: Pair) -> None:
    undisturbed = pair.combine(pair.scratch / "undisturbed")
    truth = undisturbed["statistics"]
    labels = [step.removesuffix(" /") for step in undisturbed["ops"] if not step.startswith(NEVER_FULL)][::2]

    def attempt(number_and_label: tuple[int, str]) -> list[str]:
        number, label = number_and_label
        site = pair.scratch / f"full-{number}"
        answer = pair.combine(site, {"fail": [label], "fail_half": True})
        clear = any(word in answer.get("message", "") for word in ("full", "space")) and answer["hint"]
        faults = [] if clear or answer["status"] == 0 else [f"ended with {answer}"]
        faults += [] if answer["fired"] == [label] else ["nothing failed"]
        faults += ends_well(pair, site, truth, number)
        return [f"full at {label}: {fault}" for fault in faults]

    results = pair.runners.map(attempt, enumerate(labels))

    assert not [fault for faults in results for fault in faults]
