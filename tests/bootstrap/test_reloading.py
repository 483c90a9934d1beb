"""A settings file that changes under a node: what is taken over, what is told, and what a wrong file does (nothing)."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from mergenode.adapters.clock import SystemClock
from mergenode.adapters.observers.log import LogObserver, configure_logging
from mergenode.adapters.observers.reload_metrics import ReloadMetrics
from mergenode.bootstrap.node import open_loop, open_state
from mergenode.bootstrap.reloading import Reloading
from mergenode.daemon.lifecycle import Lifecycle
from mergenode.daemon.loop import Loop
from mergenode.ledger.actions import Wait
from mergenode.settings import load_settings
from tests.support.real_node import RealNode

STRICT = {"frozen": {"patterns": ["model.norm.*"], "action": "reject"}}


class Reloadable:
    """A loop over real files whose settings file is read again when ``tune`` is called."""

    def __init__(self, node: RealNode, loop: Loop, reloading: Reloading, registry: CollectorRegistry) -> None:
        self.node = node
        self.loop = loop
        self.reloading = reloading
        self.registry = registry
        self.log = io.StringIO()
        configure_logging("json", "debug", self.log)

    def change(self, **settings: Any) -> list[dict[str, Any]]:
        self.node.configure(**settings)
        return self.read()

    def read(self) -> list[dict[str, Any]]:
        """What the node says when it looks at its settings."""
        start = self.log.tell()
        self.reloading.ask()
        self.loop.tune()
        self.log.seek(start)
        return [json.loads(line) for line in self.log.read().splitlines() if line.startswith("{")]

    def run(self) -> None:
        """Look, and do what is there."""
        self.loop.act(Wait(0.0, "poked"))
        self.loop.run()

    def metric(self, name: str) -> float | None:
        return self.registry.get_sample_value(f"mergenode_config_{name}")


@pytest.fixture
def reloadable(tmp_path: Path) -> Iterator[Reloadable]:
    node = RealNode(tmp_path)
    settings, clock, registry = load_settings(node.config), SystemClock(), CollectorRegistry()
    observer = LogObserver(clock)
    reloading = Reloading(node.config, settings, observer, ReloadMetrics(registry, clock))
    lifecycle = Lifecycle(clock, drain_seconds=1.0)
    with (
        open_state(settings) as ledger,
        open_loop(settings, ledger, observer, lifecycle, once=True, reloading=reloading) as loop,
    ):
        yield Reloadable(node, loop, reloading, registry)
    lifecycle.close()
    logging.getLogger("mergenode").handlers.clear()


def test_what_may_change_is_in_force_for_the_next_contribution(reloadable: Reloadable) -> None:
    node = reloadable.node
    node.put("a", 1)
    reloadable.run()
    said = reloadable.change(gates=STRICT, publish={"keep": 2, "every": {"contributions": 3}})
    assert [line["level"] for line in said] == ["info"]
    assert set(said[0]["fields"]["applied"]) == {
        "publish.keep", "publish.every.contributions", "gates.frozen.patterns", "gates.frozen.action",
    }  # fmt: skip
    assert reloadable.loop.line.keep == 2 and reloadable.loop.policy.publish_every_contributions == 3
    node.put("b", 2)
    reloadable.run()
    assert node.outcomes() == {"a": ["folded"], "b": ["frozen_changed"]}
    reloadable.change()
    node.put("c", 3)
    reloadable.run()
    assert node.outcomes()["c"] == ["folded"]


def test_what_takes_a_restart_is_named_and_not_applied(reloadable: Reloadable) -> None:
    said = reloadable.change(method={"name": "iso"}, publish={"keep": 3, "dtype": "float32"})
    assert [line["fields"].get("restart") for line in said] == [None, ["method", "publish.dtype"]]
    assert said[1]["level"] == "warning"
    assert reloadable.loop.line.keep == 3
    assert reloadable.metric("restart_pending") == 2 and reloadable.metric("reload_failed") == 0
    assert reloadable.reloading.running.method.name == "opcm"
    reloadable.change()
    assert reloadable.metric("restart_pending") == 0


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"publish": {"keeep": 3}, "log": {"level": "error"}}, "publish.keeep"),
        ({"publish": {"keep": 3}, "gates": {"frozen": {"action": "reject", "patterns": ["nothing.*"]}}}, "nothing.*"),
        ({"gates": {"evaluation": {"action": "reject"}}}, "task.entrypoint"),
    ],
)
def test_a_wrong_file_changes_nothing_and_is_reported(
    reloadable: Reloadable, settings: dict[str, Any], told: str
) -> None:
    before, success = reloadable.loop.line, reloadable.metric("last_reload_success_timestamp_seconds")
    (said,) = reloadable.change(**settings)
    assert said["level"] == "error" and told in said["message"] and "stay as they were" in said["message"]
    assert reloadable.loop.line is before
    assert reloadable.metric("reload_failed") == 1
    assert reloadable.metric("last_reload_success_timestamp_seconds") == success
    reloadable.change(publish={"keep": 4})
    assert reloadable.metric("reload_failed") == 0 and reloadable.loop.line.keep == 4


@pytest.mark.parametrize("content", ["", "base: [", "\x00", "a" * (2 << 20)])
def test_whatever_the_file_holds_the_node_goes_on(reloadable: Reloadable, content: str) -> None:
    reloadable.node.config.write_text(content)
    assert [line["level"] for line in reloadable.read()] == ["error"]
    reloadable.node.config.unlink()
    assert [line["level"] for line in reloadable.read()] == ["error"]
    assert reloadable.metric("reload_failed") == 1


def test_the_log_itself_changes(reloadable: Reloadable) -> None:
    reloadable.change(log={"format": "console", "level": "warning"})
    assert logging.getLogger("mergenode").level == logging.WARNING
    start = reloadable.log.tell()
    reloadable.loop.line.observer.message("info", "not this")
    reloadable.loop.line.observer.message("warning", "but this")
    reloadable.log.seek(start)
    text = reloadable.log.read()
    assert "but this" in text and "not this" not in text and not text.startswith("{")


def test_asked_without_a_change_it_only_says_so(reloadable: Reloadable) -> None:
    assert [line["level"] for line in reloadable.read()] == ["debug"]
