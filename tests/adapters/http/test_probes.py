"""Probes flip when they should, and only then."""

from __future__ import annotations

from typing import Any

import pytest

from mergenode.adapters.http import live
from mergenode.ledger.records import Fact
from mergenode.ports.observer import Progress
from mergenode.types import Listing
from tests.support.observed import folded
from tests.support.status_node import Node


def fold(done: int, subject: str = "team-1") -> Progress:
    return Progress("fold", subject, done, 100, done * 10, 1000)


def test_a_node_that_starts_is_alive_but_neither_started_nor_ready(node: Node) -> None:
    assert [node.request(path).status_code for path in ("/livez", "/startupz", "/readyz")] == [200, 503, 503]


def test_started_and_ready_come_one_after_the_other(node: Node) -> None:
    node.live.state_loaded()
    assert node.request("/startupz").status_code == 200
    assert node.request("/readyz").json()["reasons"] == [
        "registry inbox has not answered yet",
        "registry bucket has not answered yet",
    ]
    node.live.listed("inbox", Listing(), 0)
    node.live.listing_failed("bucket", "connection refused")
    answer = node.request("/readyz")
    assert (answer.status_code, answer.json()["reasons"]) == (
        503,
        ["registry bucket has not answered yet: connection refused"],
    )
    node.live.listed("bucket", Listing(), 0)
    assert (node.request("/readyz").status_code, node.request("/readyz").json()) == (200, {"status": "ok"})


def test_a_registry_that_fails_later_does_not_take_readiness_away(ready: Node) -> None:
    ready.live.listing_failed("bucket", "connection refused")
    assert ready.request("/readyz").status_code == 200


def test_a_node_that_stops_is_alive_and_not_ready(ready: Node) -> None:
    ready.live.drain()
    assert ready.request("/readyz").json()["reasons"] == ["stopping"]
    assert ready.request("/livez").status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/healthz"])
def test_a_loop_that_stands_still_is_dead_after_the_limit(ready: Node, path: str) -> None:
    ready.live.heartbeat()
    ready.clock.advance(99.9)
    assert ready.request(path).status_code == 200
    ready.clock.advance(0.1)
    answer = ready.request(path)
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "failed",
        "reasons": ["the loop last turned 100 s ago (limit 100 s)"],
    }
    ready.live.heartbeat()
    assert ready.request(path).status_code == 200


def test_a_long_fold_is_life_exactly_as_long_as_it_advances(ready: Node) -> None:
    for done in range(50):
        ready.live.progress(fold(done))
        ready.clock.advance(60)
        assert ready.request("/livez").status_code == 200
    ready.clock.advance(39)
    ready.live.progress(fold(49))
    assert ready.request("/livez").status_code == 200
    ready.clock.advance(1)
    ready.live.progress(fold(49))
    answer = ready.request("/livez")
    assert answer.status_code == 503
    assert "fold last advanced 100 s ago" in answer.json()["reasons"][0]


@pytest.mark.parametrize("end", [folded(1)])
def test_a_finished_fold_is_no_life_any_more(ready: Node, end: Fact) -> None:
    ready.clock.advance(90)
    ready.live.progress(fold(100))
    ready.live.fact(end)
    ready.clock.advance(10)
    assert ready.request("/livez").status_code == 503


def test_verbose_lists_every_check(ready: Node) -> None:
    checks = ready.request("/readyz?verbose").json()["checks"]
    assert [(check["name"], check["ok"]) for check in checks] == [
        ("state", True),
        ("draining", True),
        ("registry inbox", True),
        ("registry bucket", True),
    ]
    assert "checks" not in ready.request("/readyz").json()


def test_probes_ask_nothing_of_the_ledger(ready: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("the disk is gone")

    for name in ("initialised", "head", "facts", "counts", "versions"):
        monkeypatch.setattr(ready.ledger, name, broken)
    assert {path: ready.request(path).status_code for path in ("/livez", "/readyz", "/startupz")} == {
        "/livez": 200,
        "/readyz": 200,
        "/startupz": 200,
    }
    assert ready.request("/api/v1/status").status_code == 500


def test_a_stop_signal_in_the_middle_of_an_update_is_neither_stuck_nor_lost(
    ready: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = live.replace

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(live, "replace", change)
        ready.live.drain()
        return change(*args, **kwargs)

    monkeypatch.setattr(live, "replace", interrupted)
    ready.live.heartbeat()
    assert ready.request("/readyz").json()["reasons"] == ["stopping"]
