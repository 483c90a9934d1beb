"""One id from `mergenode push` to the version: in the node's log, its metrics, its facts, and at a real collector."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mergenode.cli.root import cli
from tests.support.checkpoints import write_single
from tests.support.otlp_receiver import http_receiver
from tests.support.real_node import Process, RealNode, mergenode

pytestmark = pytest.mark.slow

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def document(*args: object) -> Any:
    """What a command that reads says, run in this process."""
    ended = CliRunner().invoke(cli, [*map(str, args), "--json"])
    assert ended.exit_code == 0, f"{args}: {ended.output}"
    return json.loads(ended.stdout)


def test_one_id_from_the_push_to_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peers, http = free_ports(2)
    with http_receiver() as collector:
        node = RealNode(
            tmp_path, peers={"listen": f"127.0.0.1:{peers}"}, http={"listen": f"127.0.0.1:{http}"},
            log={"format": "json"}, tracing={"endpoint": collector.endpoint},
        )  # fmt: skip
        model = write_single(tmp_path / "tuned", node.tuned(1))
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        with Process("run", "-c", node.config) as process:
            process.until("peers on")
            pushed = mergenode("push", model, "--to", f"127.0.0.1:{peers}", "--wait", "--json")
            trace_id = json.loads(pushed.stdout)["trace_id"]
            process.until('"event": "published"')
            request = urllib.request.Request(f"http://127.0.0.1:{http}/metrics", headers={"Accept": OPEN_METRICS})
            with urllib.request.urlopen(request) as answer:
                metrics = answer.read().decode()
            with urllib.request.urlopen(f"http://127.0.0.1:{http}/api/v1/history") as answer:
                history = json.loads(answer.read())["facts"]
            assert process.end() == 0
    # every line of the node about it, and no other
    lines = [json.loads(line) for line in process.lines if line.startswith("{")]
    ours = [entry for entry in lines if entry.get("trace_id") == trace_id]
    assert [entry["event"] for entry in ours] == ["message", "discovered", "folded", "published"]
    assert "pushed tuned" in ours[0]["message"] and all(re.fullmatch("[0-9a-f]{16}", e["span_id"]) for e in ours)
    assert {entry["event"] for entry in lines if "tuned" in entry["message"]} <= {entry["event"] for entry in ours}
    # exemplars
    named = {line.partition("{")[0] for line in metrics.splitlines() if f'trace_id="{trace_id}"' in line}
    assert {
        "mergenode_fold_seconds_bucket",
        "mergenode_publish_seconds_bucket",
        "mergenode_contributions_total",
    } <= named
    # facts, and the life that they tell
    assert [fact["kind"] for fact in history if fact["trace_id"] == trace_id] == ["discovered", "folded"]
    life = document("trace", trace_id[:8], "-c", node.config)
    assert life == document("trace", "tuned", "-c", node.config) and life["in_merge"]
    assert [moment["what"] for moment in life["moments"]] == ["discovered", "read", "folded", "published"]
    # spans of both processes, at a collector that speaks the real protocol
    spans = {span.name: span for span in collector.of(trace_id)}
    assert set(spans) == {
        "push", "intake missing", "intake put", "intake commit", "settle", "fold", "read", "project", "judge", "commit",
        "publish",
    }  # fmt: skip
    for part in ("missing", "put", "commit"):
        assert spans[f"intake {part}"].parent_span_id == spans["push"].span_id
    for part in ("read", "project", "judge", "commit"):
        assert spans[part].parent_span_id == spans["fold"].span_id
    folded = next(entry for entry in ours if entry["event"] == "folded")
    assert folded["span_id"] == spans["fold"].span_id.hex()
    assert {resource["service.name"] for resource in collector.resources} == {"mergenode", "mergenode-push"}
