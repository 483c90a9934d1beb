"""Methods, headers, errors, formats and the page."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from mergenode.adapters.http.page import SHOWN
from mergenode.ports.observer import Progress
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
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;\x1b[2J\n\u202e\udcff"


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


class Elements(HTMLParser):
    """Every element and attribute of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def hostile_page(node: Node) -> str:
    node.ledger.recorded += [
        folded(1, name=HOSTILE, registry=HOSTILE, time=HOSTILE),
        rejected(HOSTILE, registry=HOSTILE, reason=HOSTILE, message=HOSTILE, hint=HOSTILE),
        published(1, path=HOSTILE),
    ]
    node.live.listed(HOSTILE, Listing(unsettled=(Unsettled(HOSTILE, HOSTILE, HOSTILE),)), 1)
    node.live.listing_failed("bucket", HOSTILE)
    node.live.retrying(HOSTILE, HOSTILE, HOSTILE, 1.0)
    node.live.progress(Progress(HOSTILE, HOSTILE, 0, 1, 0, 1, HOSTILE))
    answer = node.request("/")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return answer.content.decode("utf-8")


def test_hostile_names_stay_text_on_the_page(ready: Node) -> None:
    page = hostile_page(ready)
    elements = Elements(page)
    assert elements.tags == {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "p",
        "progress",
        "span",
        "table",
        "tr",
        "th",
        "td",
        "a",
    }
    assert elements.attributes == {
        "lang", "charset", "name", "content", "class", "href", "max", "value", "aria-label"
    }  # fmt: skip
    assert "<script>alert(1)</script>" in "".join(elements.words)
    assert "\x1b" not in page and "\u202e" not in page


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
    ready.live.sizes(statistics_bytes=3 << 30, published_bytes=1536, disk_free_bytes=10)
    words = Elements(ready.request("/").text).words
    for said in (
        "ready",
        "team-60",
        "team-11",
        "50.0%",
        "broken",
        "shape_mismatch",
        "half",
        "shard missing",
        "12",
        "push a fine-tune of this base",
        "statistics 3.0 GiB, versions 1.5 KiB, free 10 B",
    ):
        assert said in words, said
    assert "team-10" not in words


def test_the_page_says_what_is_wrong(ready: Node) -> None:
    ready.clock.advance(500)
    ready.live.retrying("team-1", "disk_full", "no space left", 8.0)
    page = ready.request("/").text
    assert "the loop last turned 500 s ago" in page
    assert "team-1 is tried again after 8 s: no space left" in page
