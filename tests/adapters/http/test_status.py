"""The status, history and versions documents."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mergenode.adapters.http.app import DEFAULT_HISTORY, MAX_HISTORY
from mergenode.adapters.http.live import MAX_UNSETTLED_SHOWN
from mergenode.errors import TransientError, TransientReason
from mergenode.ledger.records import Pruned
from mergenode.ports.observer import Progress
from mergenode.types import Listing, Unsettled
from tests.support import facts
from tests.support.observed import BASE, TIME, duplicate, folded, published, rejected
from tests.support.status_node import Node

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"


def status(node: Node) -> dict[str, Any]:
    answer = node.request("/api/v1/status")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


def test_the_document_has_the_documented_keys(ready: Node) -> None:
    ready.live.progress(Progress("fold", "team-1", 1, 4, 10, 40))
    ready.live.retrying("team-1", "disk_full", "no space", 2.0)
    ready.live.progress(Progress("fold", "team-1", 1, 4, 10, 40))
    ready.live.sizes(statistics_bytes=1, published_bytes=2, disk_free_bytes=3)
    found = status(ready)
    section = DOCUMENT.read_text().partition("## Status")[2]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE))
    assert set(rows) == set(found)
    for key in ("head", "health", "method", "running", "retrying", "disk", "last"):
        assert set(re.findall(r"`(\w+)`", rows[key])) >= set(found[key]), key
    assert set(re.findall(r"`(\w+)`", rows["activities"])) >= set(found["activities"][0])
    assert set(re.findall(r"`(\w+)`", rows["registries"])) >= set(found["registries"][0])


def test_an_empty_node_answers_with_nulls(node: Node) -> None:
    node.ledger.recorded.clear()
    found = status(node)
    assert (found["base"], found["method"], found["running"], found["disk"]) == (None, None, None, None)
    assert found["last"] == {"folded": None, "published": None, "rejected": None, "quarantined": None}
    assert found["head"]["count"] == 0


def test_the_merge_and_the_last_facts(ready: Node) -> None:
    ready.ledger.recorded += [
        folded(1),
        rejected("old"),
        folded(2),
        published(2),
        rejected("new"),
        duplicate(),
    ]
    found = status(ready)
    assert (found["base"], found["method"]) == (BASE, {"name": "opcm", "options": {"alpha": 0.5}})
    assert (found["head"]["count"], found["head"]["version"], found["head"]["totals"]) == (
        2,
        2,
        {"delta_sq": 4.0},
    )
    assert found["counts"] == {"duplicate": 1, "folded": 2, "initialised": 1, "published": 1, "rejected": 2}
    assert found["last"]["folded"]["name"] == "team-2" and "groups" not in found["last"]["folded"]
    assert (found["last"]["rejected"]["name"], found["last"]["published"]["version"]) == ("new", 2)


def test_the_queue_and_why_entries_wait(ready: Node) -> None:
    entries = tuple(Unsettled("inbox", f"half-{n}", "shard 2 of 3 is missing", 7.5) for n in range(1000))
    ready.live.listed("inbox", Listing(unsettled=entries), 4)
    ready.clock.advance(3)
    ready.live.listed("bucket", Listing(), 2)
    ready.live.listing_failed("bucket", "timeout")
    found = status(ready)
    inbox, bucket = found["registries"]
    assert (found["pending"], found["unsettled"]) == (6, 1000)
    assert (inbox["name"], inbox["answered_seconds_ago"], inbox["error"]) == ("inbox", 3.0, None)
    assert inbox["unsettled"][0] == {"name": "half-0", "why": "shard 2 of 3 is missing", "seconds_left": 7.5}
    assert (len(inbox["unsettled"]), inbox["unsettled_total"]) == (MAX_UNSETTLED_SHOWN, 1000)
    assert (bucket["pending"], bucket["error"]) == (2, "timeout")


def test_running_work_has_a_rate_and_a_remaining_time(ready: Node) -> None:
    # Resumed at 400 bytes: what an earlier process did must not flatter the rate.
    ready.live.progress(Progress("fold", "team-1", 4, 10, 400, 1000))
    assert status(ready)["running"]["bytes_per_second"] is None
    ready.clock.advance(10)
    ready.live.progress(Progress("fold", "team-1", 5, 10, 500, 1000, waits_for="disk"))
    ready.clock.advance(10)
    running = status(ready)["running"]
    assert (running["activity"], running["subject"], running["waits_for"]) == ("fold", "team-1", "disk")
    assert running["bytes_per_second"] == pytest.approx(10.0)
    assert running["seconds_remaining"] == pytest.approx(40.0)
    assert (running["elapsed_seconds"], running["advanced_seconds_ago"]) == (20.0, 10.0)
    ready.live.progress(Progress("publish", "v1", 0, 10, 0, 1000))
    assert status(ready)["running"]["elapsed_seconds"] == 0.0
    ready.live.fact(published(1))
    assert status(ready)["running"] is None


def test_a_retry_is_shown_until_something_succeeds(ready: Node) -> None:
    ready.live.retrying("bucket", "registry_unreachable", "timeout", 4.0, "look at the network")
    ready.clock.advance(1)
    assert status(ready)["retrying"] == {
        "subject": "bucket",
        "reason": "registry_unreachable",
        "message": "timeout",
        "hint": "look at the network",
        "delay_seconds": 4.0,
        "seconds_ago": 1.0,
    }
    ready.live.listed("inbox", Listing(), 0)
    assert status(ready)["retrying"] is not None
    ready.live.listed("bucket", Listing(), 0)
    assert status(ready)["retrying"] is None


def test_history_is_the_newest_facts_in_order(ready: Node) -> None:
    ready.ledger.recorded += [folded(n) for n in range(1, 300)]
    facts = ready.request("/api/v1/history?limit=3").json()["facts"]
    assert [(fact["sequence"], fact["name"]) for fact in facts] == [
        (298, "team-297"),
        (299, "team-298"),
        (300, "team-299"),
    ]
    assert facts[0]["groups"][1]["group"] == "layers.0"
    assert len(ready.request("/api/v1/history").json()["facts"]) == DEFAULT_HISTORY
    assert len(ready.request(f"/api/v1/history?limit={MAX_HISTORY}").json()["facts"]) == MAX_HISTORY


@pytest.mark.parametrize("limit", ["0", "-1", "201", "1e9", "", "x", "٣", "9" * 5000, "1.0", " 1"])
def test_a_wrong_limit_is_refused(ready: Node, limit: str) -> None:
    answer = ready.request(f"/api/v1/history?limit={limit}")
    assert answer.status_code == 400
    assert "limit must be a number from 1 to 200" in answer.json()["error"]["message"]


def test_what_is_in_quarantine_and_what_was_released(ready: Node) -> None:
    ready.ledger.recorded += [facts.quarantined(2), facts.quarantined(3), facts.quarantined(4), facts.released(3)]
    found = ready.request("/api/v1/quarantine").json()
    assert [(entry["name"], entry["sequence"]) for entry in found["quarantined"]] == [("m4", 4), ("m2", 2)]
    assert [entry["name"] for entry in found["released"]] == ["m3"]
    assert found["quarantined"][0]["gate"] == "norm" and status(ready)["quarantined"] == 2
    assert ready.request("/api/v1/quarantine?limit=1").json()["quarantined"] == []
    assert ready.request("/api/v1/quarantine?limit=0").status_code == 400
    page = ready.request("/").text
    assert "<h2>In quarantine</h2>" in page and "far from the others" in page and "m3" not in page


def test_versions_are_those_with_files(ready: Node) -> None:
    ready.ledger.recorded += [
        folded(1),
        published(1),
        folded(2),
        published(2),
        Pruned(time=TIME, versions=(1,)),
    ]
    versions = ready.request("/api/v1/versions").json()["versions"]
    assert [(version["version"], version["latest"]) for version in versions] == [(2, True)]


def test_wild_values_are_still_json(ready: Node) -> None:
    name = 'a"\n</script>\udcff\u202e'
    ready.ledger.recorded.append(
        folded(1, name=name, norm=float("inf"), relative_norm=float("nan"), totals={"x": float("-inf")})
    )
    ready.live.progress(Progress("fold", name, 0, 1, 0, 1))
    answer = ready.request("/api/v1/history")
    (fact,) = [fact for fact in answer.json()["facts"] if fact["kind"] == "folded"]
    assert (fact["name"], fact["norm"], fact["relative_norm"], fact["totals"]) == (
        name,
        None,
        None,
        {"x": None},
    )
    assert answer.content.isascii()
    assert status(ready)["running"]["subject"] == name
    json.loads(answer.text, parse_constant=pytest.fail)


def test_no_credential_gets_out(ready: Node) -> None:
    secret = "s3://id:hunter2@store/x?X-Amz-Signature=hunter2"
    ready.ledger.recorded += [folded(1, location=secret), rejected(message=secret, hint=secret), published(1)]
    ready.live.listing_failed("inbox", secret)
    ready.live.retrying("x", "read_failed", secret, 1.0)
    for path in ("/", "/api/v1/status", "/api/v1/history", "/readyz?verbose", "/metrics"):
        assert "hunter2" not in ready.request(path).text, path


def test_a_ledger_that_cannot_be_read_is_a_503_with_its_hint(ready: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(**kwargs: object) -> None:
        raise TransientError(TransientReason.READ_FAILED, "cannot read ledger.sqlite", hint="check the volume")

    monkeypatch.setattr(ready.ledger, "facts", failing)
    answer = ready.request("/api/v1/history")
    assert (answer.status_code, answer.json()["error"]) == (
        503,
        {"status": 503, "message": "cannot read ledger.sqlite", "hint": "check the volume"},
    )
