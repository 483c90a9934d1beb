"""The document of the tensors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mergenode.adapters.http.app import create_app
from mergenode.adapters.http.tensors import DEFAULT_TENSORS, MAX_TENSORS
from tests.support.observed import folded
from tests.support.status_node import Node

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"
ROW = {
    "shape": [2, 3], "dtype": "F32", "delta_norm": 1.0, "kept_norm": 0.5, "merge_norm": 2.0, "base_norm": 9.0,
    "cosine": float("nan"), "share_kept": 0.5, "vetoed_norm": None, "observed": {"rank": 2.0},
}  # fmt: skip


def table(generation: int) -> Iterator[Mapping[str, Any]] | None:
    """Of generation 2 there are 7,000 tensors in two groups."""
    if generation != 2:
        return None
    return ({"name": f"layers.{n % 2}.w{n}", "group": f"layers.{n % 2}", **ROW} for n in range(7000))


@pytest.fixture
def asked(ready: Node) -> Node:
    ready.ledger.recorded += [folded(1), folded(2, name="s3://id:hunter2@store/x")]
    ready.app = create_app("node-a", ready.ledger, ready.metrics, ready.live, tensors=table)
    return ready


def test_a_page_of_the_table(asked: Node) -> None:
    found = asked.request("/api/v1/tensors?offset=6999").json()
    assert (found["total"], found["offset"], [row["name"] for row in found["tensors"]]) == (
        7000,
        6999,
        ["layers.1.w6999"],
    )
    assert found["contribution"]["generation"] == 2 and found["contribution"]["name"] == "s3://***@store/x"
    assert found["tensors"][0]["cosine"] is None and found["tensors"][0]["observed"] == {"rank": 2.0}
    assert len(asked.request("/api/v1/tensors").json()["tensors"]) == DEFAULT_TENSORS
    assert len(asked.request(f"/api/v1/tensors?limit={MAX_TENSORS}").json()["tensors"]) == MAX_TENSORS


def test_one_layer_group(asked: Node) -> None:
    found = asked.request("/api/v1/tensors?group=layers.1&offset=1&limit=2").json()
    assert (found["total"], [row["name"] for row in found["tensors"]]) == (3500, ["layers.1.w3", "layers.1.w5"])
    assert asked.request("/api/v1/tensors?group=none").json()["tensors"] == []


@pytest.mark.parametrize("wrong", ["limit=0", "limit=5001", "offset=-1", "offset=x", "limit="])
def test_wrong_numbers_are_refused(asked: Node, wrong: str) -> None:
    answer = asked.request(f"/api/v1/tensors?{wrong}")
    assert answer.status_code == 400 and "must be a number from" in answer.json()["error"]["message"]


def test_what_is_gone_is_a_404_that_says_why(asked: Node, node: Node) -> None:
    asked.ledger.recorded.append(folded(3))
    answer = asked.request("/api/v1/tensors")
    assert answer.status_code == 404 and "the merge changed after team-3" in answer.json()["error"]["message"]
    asked.ledger.recorded.clear()
    assert "nothing was folded yet" in asked.request("/api/v1/tensors").text


def test_the_document_has_the_documented_keys(asked: Node) -> None:
    found = asked.request("/api/v1/tensors?limit=1").json()
    section = DOCUMENT.read_text().partition("## Tensors")[2].partition("## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE))
    assert set(rows) == set(found) | set(found["tensors"][0])
    assert set(re.findall(r"`(\w+)`", rows["contribution"])) >= set(found["contribution"])
