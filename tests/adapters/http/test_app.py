"""Methods, headers, errors, formats and the page."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from mergenode.adapters.http.page.recent import SHOWN
from mergenode.types import Listing, Unsettled
from tests.support.observed import folded, published, rejected
from tests.support.status_node import Node

PATHS = [
    "/",
    "/metrics",
    "/livez",
    "/healthz",
    "/readyz",
    "/startupz",
    "/api/v1/status",
    "/api/v1/history",
    "/api/v1/versions",
]


@pytest.mark.parametrize("path", PATHS)
def test_get_and_head_only(ready: Node, path: str) -> None:
    got, head = ready.request(path), ready.request(path, "HEAD")
    assert (got.status_code, head.status_code) == (200, 200)
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        refused = ready.request(path, method)
        assert refused.status_code == 405
        assert refused.json()["error"]["status"] == 405
        assert set(refused.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
def test_headers_are_strict_everywhere(ready: Node, path: str) -> None:
    headers = ready.request(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "script-src" not in policy


@pytest.mark.parametrize(
    "path", ["/nothing", "/metrics/", "/x//evil.example/", "/api/v1/", "/%2e%2e/etc/passwd", "/LIVEZ"]
)
def test_an_unknown_path_is_a_json_404(ready: Node, path: str) -> None:
    answer = ready.request(path)
    assert (answer.status_code, answer.json()["error"]["status"]) == (404, 404)
    assert "location" not in answer.headers


def test_a_fault_is_a_json_500_without_its_details(ready: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("internal detail")

    monkeypatch.setattr(ready.ledger, "versions", broken)
    answer = ready.request("/api/v1/versions")
    assert (answer.status_code, answer.json()["error"]["status"]) == (500, 500)
    assert "internal detail" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_metrics_come_in_the_format_that_is_accepted(ready: Node) -> None:
    classic = ready.request("/metrics")
    assert classic.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "mergenode_version 0.0" in classic.text and "# EOF" not in classic.text
    accept = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5"
    modern = ready.request("/metrics", headers={"accept": accept})
    assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name for family in text_string_to_metric_families(modern.text)}
    assert {"mergenode_version", "mergenode_fold_seconds", "mergenode_build"} <= families


def test_the_policy_admits_the_style_of_the_page_and_nothing_else(ready: Node) -> None:
    answer = ready.request("/")
    (sheet,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}';" in answer.headers["content-security-policy"]
    assert " style=" not in answer.text


def test_the_page_tells_what_is_in_the_merge_and_what_is_not(ready: Node) -> None:
    ready.ledger.recorded += [folded(n) for n in range(1, SHOWN + 11)]
    ready.ledger.recorded += [rejected("broken"), published(SHOWN + 10)]
    ready.live.listed("inbox", Listing(unsettled=(Unsettled("inbox", "half", "shard missing"),)), 12)
    ready.live.sizes(statistics_bytes=3 << 30, published_bytes=1536, disk_free_bytes=10 << 30)
    page = ready.request("/").text
    for said in (
        "1 contribution was rejected within a day, last broken: shape_mismatch",
        ">team-60</th>",
        ">team-11</th>",
        ">50.0 %</td>",
        ">broken</th>",
        ">half</th>",
        ">shard missing</td>",
        "<dd>12<small>1 not complete</small></dd>",
        "push a fine-tune of this base",
        "10.0 GiB<small>free; statistics 3.0 GiB, versions 1.5 KiB</small>",
    ):
        assert said in page, said
    assert ">team-10</th>" not in page


def test_the_page_says_what_is_wrong(ready: Node) -> None:
    ready.clock.advance(500)
    ready.live.retrying("team-1", "disk_full", "no space left", 8.0)
    page = ready.request("/").text
    assert "Something is wrong" in page and "the loop last turned 500 s ago" in page
    assert "team-1 is tried again after 8 s: no space left" in page
