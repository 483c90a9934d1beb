"""The log of a real node in trouble: bad files without end, a registry that is away, a hostile peer, a full disk."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from mergenode.adapters.observers.log import MOST_NEWS, MOST_WARNINGS
from tests.e2e.test_traces import free_ports
from tests.support.real_node import Process, RealNode

pytestmark = pytest.mark.slow

BAD, ROTTEN = 1000, 50
CALLS = ("Peer/Exchange", "Peer/Hello", "Peer/GetHeads", "Intake/Begin", "Intake/Commit", "Blobs/None")


def entries(process: Process) -> list[dict[str, Any]]:
    assert all(line.startswith("{") for line in process.lines), "every line is one of ours"
    return [json.loads(line) for line in process.lines]


def attack(port: int) -> None:
    """Noise, calls that do not exist, messages that are none, and headers that try to be ids of others."""
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", port)) as line, suppress(OSError):
            line.sendall(os.urandom(2000))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for number in range(300):
            call = channel.unary_unary(f"/mergenode.v1.{CALLS[number % len(CALLS)]}")
            header = "00-" + "a" * 32 + "-" + "b" * 16 + "-01" if number % 2 else "x" * 4000
            with suppress(grpc.RpcError):
                call(os.urandom(number), timeout=30, metadata=(("traceparent", header),))


def test_bad_files_without_end_a_registry_that_is_away_and_a_hostile_peer(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    node = RealNode(tmp_path)
    near = {"url": "./inbox", "settle_seconds": 0, "settle_polls": 1, "poll_seconds": 0.1}
    node.configure(
        log={"format": "json"}, peers={"listen": f"127.0.0.1:{port}"}, registries=[near, {**near, "url": "./away"}]
    )
    for number in range(BAD):
        (node.inbox / f"bad{number:04d}.pt").write_bytes(b"no weights")
    for number in range(ROTTEN):
        (node.inbox / f"rotten{number:02d}.safetensors").write_bytes(b"\xff" * 64)
    node.put("well", 1)
    with Process("run", "-c", node.config) as process:
        process.until("peers on")
        attack(port)
        process.until('"event": "published"')
        assert process.end() == 0
    lines = entries(process)
    assert node.outcomes()["well"] == ["folded"]
    assert Counter(type(fact).__name__ for fact in node.facts("rejected")) == {"Rejected": BAD + ROTTEN}
    kinds = Counter((entry["level"], entry["event"], str(entry["fields"].get("reason", ""))) for entry in lines)
    for (level, *kind), count in kinds.items():
        assert count <= (MOST_NEWS if level == "info" else MOST_WARNINGS), kind
    rejections = [entry for entry in lines if entry["event"] == "rejected"]
    assert len({entry["fields"]["reason"] for entry in rejections}) == 2, "the first of each reason is told"
    assert rejections[0]["fields"]["name"] == "bad0000.pt" and rejections[0]["message"].startswith(
        "rejected 'bad0000.pt'"
    )
    assert not any(entry.get("trace_id") == "a" * 32 for entry in lines), "no caller names the subject of a line"
    assert len(lines) < 150


@pytest.mark.root
def test_a_full_disk_is_a_few_lines(tmp_path: Path) -> None:
    attempt = ["unshare", "-m", "--propagation", "private", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if subprocess.run(attempt, capture_output=True, check=False).returncode:
        pytest.skip("needs root and the right to mount a tmpfs in a mount namespace")
    node = RealNode(tmp_path, log={"format": "json"})
    node.state.mkdir()
    mount = 'mount -t tmpfs -o size=8m tmpfs "$0" && exec "$@"'
    inside = ["unshare", "-m", "--propagation", "private", "sh", "-c", mount, str(node.state)]
    with Process("run", "-c", node.config, before=inside) as process:
        process.until('"event": "initialised"')
        state = Path(f"/proc/{process.process.pid}/root{node.state}")
        fill = state / "fill"
        with suppress(OSError), open(fill, "wb", buffering=0) as stream:
            while True:
                stream.write(b"x" * (1 << 16))
        node.put("tuned", 1)
        retried = json.loads(process.until('"event": "retrying"'))
        assert retried["fields"]["reason"] == "disk_full"
        fill.unlink()
        process.until('"event": "published"')
        assert process.end() == 0
    lines = entries(process)
    assert Counter(entry["event"] for entry in lines)["retrying"] <= MOST_WARNINGS
    assert len(lines) < 60
    about = [entry.get("trace_id") for entry in lines if "'tuned'" in entry["message"]]
    assert about and len(set(about)) == 1 and about[0] is not None
