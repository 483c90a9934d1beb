"""peers: what the running node says of others, for people and for programs."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mergenode.adapters.http.app import create_app
from mergenode.adapters.http.server import HttpServer
from mergenode.adapters.peers.membership.document import peers_document
from mergenode.cli import peers as module
from tests.support.peer_snapshot import ONE, TWO, snapshot
from tests.support.status_node import Node

PEERS = "peers: {listen: 127.0.0.1:0}\n"


def settings(config: Path, http: str, peers: str = PEERS) -> Path:
    config.write_text(f"base: ./base\nregistries: []\nnode: {{name: node-t}}\nhttp: {{listen: {http}}}\n{peers}")
    return config


@pytest.fixture
def served() -> Iterator[str]:
    """The address of a node that has peers."""
    node = Node()
    node.make_ready()
    app = create_app("node-t", node.ledger, node.metrics, node.live, peers=lambda: peers_document(snapshot()))
    server = HttpServer(app, "127.0.0.1", 0)
    host, port = server.start()
    yield f"{host}:{port}"
    assert server.stop()


def test_for_people(run, config: Path, served: str) -> None:
    result = run("peers", "-c", settings(config, served))
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["lineage", "words"] in lines and ["topology", "2", "entries,", "generation", "1"] in lines
    rows = [line for line in lines if line and line[0] == "00000000"]
    assert rows[0] == ["00000000", "alive", "node-2:50051", "3", "4.0", "ms", "1.50", "s", "1", "2", "0.125", "0"]
    assert rows[1][1] == "banned" and rows[1][-1] == "3" and rows[2][1:4] == ["down,", "not", "called"]
    assert "node-9:50051: unavailable: refused" in result.stdout


def test_for_programs(run, config: Path, served: str) -> None:
    result = run("peers", "-c", settings(config, served), "--json")
    document = json.loads(result.stdout)
    assert (document["schema"], document["node"]) == ("mergenode.peers/1", "node-t")
    assert [peer["node_id"] for peer in document["peers"]][:2] == [str(ONE), str(TWO)]


def test_a_node_that_does_not_run_is_told_as_such(run, config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    result = run("peers", "-c", settings(config, f"127.0.0.1:{port}"))
    assert result.exit_code == 1 and "the node does not answer" in result.stderr
    assert f"mergenode run -c {config}" in result.stderr


def test_a_node_that_hangs_is_told_as_such(run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        result = run("peers", "-c", settings(config, f"127.0.0.1:{silent.getsockname()[1]}"))
    assert result.exit_code == 1 and "the node does not answer" in result.stderr


def test_peers_that_are_off_are_told_as_such(run, config: Path) -> None:
    result = run("peers", "-c", settings(config, "127.0.0.1:9464", ""))
    assert result.exit_code == 1 and "the node has no peers" in result.stderr and "set peers.listen" in result.stderr
    result = run("peers", "-c", settings(config, "null"))
    assert result.exit_code == 1 and "the running node cannot be asked" in result.stderr


def test_a_node_that_runs_with_other_settings(run, config: Path) -> None:
    node = Node()
    node.make_ready()
    server = HttpServer(node.app, "127.0.0.1", 0)
    host, port = server.start()
    result = run("peers", "-c", settings(config, f"{host}:{port}"))
    assert server.stop()
    assert result.exit_code == 1 and "this node has no peers" in result.stderr and "restart it" in result.stderr
