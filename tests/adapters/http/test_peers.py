"""The document of the peers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mergenode.adapters.http.app import create_app
from mergenode.adapters.peers.membership.document import peers_document
from tests.support.peer_snapshot import FAR, ONE, TWO, snapshot
from tests.support.status_node import Node

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"


def asked(node: Node) -> dict[str, Any]:
    node.app = create_app("node-a", node.ledger, node.metrics, node.live, peers=lambda: peers_document(snapshot()))
    answer = node.request("/api/v1/peers")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return dict(answer.json())


def test_it_says_who_is_there_and_how_far_they_are(ready: Node) -> None:
    found = asked(ready)
    peers = {peer["node_id"]: peer for peer in found["peers"]}
    assert list(peers) == [str(each) for each in (ONE, TWO, FAR)]
    one, two, far = peers.values()
    assert (one["state"], one["distance"], one["heads_behind"], one["epochs_behind"]) == ("alive", 0.125, 1, 2)
    assert two["banned"] == {"until_unix": 1_700_000_900.0, "reason": "signature: forged"}
    assert two["refusals"] == found["refusals"] == {"signature": 3}
    assert (far["direct"], far["round_trip_seconds"], far["banned"]) == (False, None, None)
    assert found["topology"]["neighbours"][1] == {"address": "node-3:50051", "node_id": str(TWO)}


def test_the_document_has_the_documented_keys(ready: Node) -> None:
    found = asked(ready)
    section = DOCUMENT.read_text().partition("## Peers")[2].partition("## Status")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE))
    assert set(rows) == set(found) | set(found["peers"][0])
    for key in ("own", "topology", "banned"):
        value = found.get(key) or found["peers"][1][key]
        assert set(re.findall(r"`(\w+)`", rows[key])) >= set(value), key
    for key in ("calls", "bans"):
        assert set(re.findall(r"`(\w+)`", rows[key])) >= set(found[key][0]), key


def test_a_node_without_peers_says_so(ready: Node) -> None:
    answer = ready.request("/api/v1/peers")
    assert answer.status_code == 404
    assert answer.json()["error"] == {"status": 404, "message": "this node has no peers", "hint": "set peers.listen"}
