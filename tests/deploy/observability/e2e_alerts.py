"""Every alert is provoked by its own fault on real nodes, fires in a real Prometheus, and clears when that is mended.

``make observability-e2e`` runs it, and no other target. Scenarios run side by side, each with nodes of its own; an
alert of one scenario's nodes that is not declared there fails it, whatever another scenario does meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.observability import runbook
from tests.deploy.observability.all_scenarios import SCENARIOS
from tests.deploy.observability.scenario import Scenario
from tests.deploy.observability.stage import Stage, perform
from tests.deploy.observability.watcher import PROGRAMS, Watcher, until
from tests.support.observability import RUNBOOKS, commands

pytestmark = [
    pytest.mark.skipif(
        any(shutil.which(each) is None for each in PROGRAMS),
        reason="prometheus is not installed (Debian: packages prometheus, prometheus-alertmanager)",
    ),
    pytest.mark.timeout(1800),
]
AT_ONCE = int(os.environ.get("SCENARIOS_AT_ONCE", "4"))
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x00020000, 0x4000, 1 << 18


def own_mounts() -> bool:
    """Give this process mounts of its own, which are gone with it; False: it may not."""
    library = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or library.unshare(_CLONE_NEWNS) != 0:
        return False
    return bool(library.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) == 0)


class Theatre:
    """Plays the scenarios that were asked for, several at a time, those that concern all targets in the end."""

    def __init__(self, root: Path, asked: set[str], stack: ExitStack) -> None:
        self._mounts = own_mounts()
        self._root = root
        self.watcher = Watcher(root / "watch", stack)
        self._control = stack.enter_context(ExitStack())
        self.control = Stage(root / "control", self.watcher, self._control)
        self.control.node("healthy").honest(2)
        self._pool = ThreadPoolExecutor(AT_ONCE)
        stack.callback(self._pool.shutdown, cancel_futures=True)
        together = [each for each in SCENARIOS.values() if each.alert in asked and not each.alone and self.may(each)]
        self.played: dict[str, Future[dict[str, Any]]] = {
            each.alert: self._pool.submit(self._play, each) for each in together
        }

    def may(self, scenario: Scenario) -> bool:
        return self._mounts or not scenario.root

    def result(self, scenario: Scenario) -> dict[str, Any]:
        if scenario.alone:
            for future in self.played.values():
                future.exception()
            return self._play(scenario)
        return self.played[scenario.alert].result()

    def _play(self, scenario: Scenario) -> dict[str, Any]:
        ran: list[str] = []
        with ExitStack() as stack:
            stack.push(lambda kind, error, _: print(f"\n{scenario.alert}: {str(error)[:4000] if error else 'played'}"))
            stage = Stage(self._root / scenario.alert, self.watcher, stack)
            if scenario.alone:
                stage.nodes.extend(self.control.nodes)
            figures = perform(stage, scenario, lambda _, fault: ran.extend(runbook.operate(scenario.alert, fault)))
        return figures | {"commands": ran}


@pytest.fixture(scope="module")
def theatre(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Theatre]:
    asked = {item.callspec.params["alert"] for item in request.session.items if hasattr(item, "callspec")}
    with ExitStack() as stack:
        yield Theatre(tmp_path_factory.mktemp("theatre"), asked, stack)


@pytest.mark.parametrize("alert", sorted(SCENARIOS, key=lambda alert: (SCENARIOS[alert].alone, alert)))
def test_it_fires_for_its_fault_and_no_other_does_and_it_clears(theatre: Theatre, alert: str) -> None:
    scenario = SCENARIOS[alert]
    if not theatre.may(scenario):
        pytest.skip(f"{scenario.fault}: needs root, for mounts")
    figures = theatre.result(scenario)
    times = ", ".join(f"{key} {figures[key]:.0f} s" for key in ("fires", "clears", "took"))
    print(f"\n{alert}: {times}; beside: {', '.join(figures['beside']) or 'none'}; {len(figures['commands'])} commands")
    print(f"    {figures['told']}")
    assert set(figures["commands"]) == set(commands((RUNBOOKS / f"{alert}.md").read_text()))


def test_nothing_ever_fired_on_a_healthy_node(theatre: Theatre) -> None:
    for future in theatre.played.values():
        future.exception()
    until(lambda: not theatre.watcher.firing(*theatre.control.instances), "all is well")
    seen = theatre.watcher.fired(theatre.control.seconds(), *theatre.control.instances)
    assert set(seen) <= {"MergenodeAbsent"}, seen
