"""The server on real sockets."""

from __future__ import annotations

import io
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from mergenode.adapters.http import connection
from mergenode.adapters.http.server import HttpServer
from mergenode.errors import FatalError
from mergenode.ledger.records import Published
from tests.support.status_node import Node

PATIENCE = 20.0
"""Seconds until a test gives up on an answer; nothing is measured against it."""

Serve = Callable[[], tuple[str, int]]


@pytest.fixture
def serve(ready: Node) -> Iterator[Serve]:
    servers: list[HttpServer] = []

    def start() -> tuple[str, int]:
        servers.append(HttpServer(ready.app, "127.0.0.1", 0))
        return servers[-1].start()

    yield start
    assert all(server.stop() for server in servers)


def get(address: tuple[str, int], path: str) -> httpx.Response:
    return httpx.get(f"http://{address[0]}:{address[1]}{path}", timeout=PATIENCE, trust_env=False)


def connect(address: tuple[str, int], sent: bytes) -> socket.socket:
    client = socket.create_connection(address, timeout=PATIENCE)
    client.sendall(sent)
    return client


def ended(client: socket.socket) -> bool:
    """Wait until the other side closes; False when it does not in a long time."""
    try:
        while client.recv(65536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def test_every_page_is_served(serve: Serve) -> None:
    address = serve()
    assert address[0] == "127.0.0.1" and address[1] > 0
    for path in ("/", "/metrics", "/livez", "/readyz", "/startupz", "/api/v1/status", "/api/v1/history"):
        answer = get(address, path)
        assert answer.status_code == 200, path
        assert "server" not in answer.headers
    assert get(address, "/nothing").status_code == 404


def test_names_that_are_not_utf8_reach_the_client(serve: Serve, ready: Node) -> None:
    ready.live.retrying("\udcff\u202e", "read_failed", "x", 1.0)
    address = serve()
    assert get(address, "/api/v1/status").json()["retrying"]["subject"] == "\udcff\u202e"
    assert "\\udcff" in get(address, "/").text


def test_stop_closes_the_port_and_can_be_repeated(ready: Node) -> None:
    server = HttpServer(ready.app, "127.0.0.1", 0)
    address = server.start()
    assert get(address, "/livez").status_code == 200
    assert server.stop() and server.stop()
    with pytest.raises(httpx.ConnectError):
        get(address, "/livez")
    again = HttpServer(ready.app, *address)
    assert again.start() == address
    assert again.stop()


def test_a_server_that_never_started_stops(ready: Node) -> None:
    assert HttpServer(ready.app, "127.0.0.1", 0).stop()


def test_no_signal_handler_is_touched(serve: Serve) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert get(serve(), "/livez").status_code == 200
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_an_address_in_use_is_named_with_its_holder(ready: Node) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(FatalError) as raised:
            HttpServer(ready.app, "127.0.0.1", port).start()
    assert f"127.0.0.1:{port}: address in use by process " in raised.value.message
    assert "http.listen" in raised.value.hint


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        ("192.0.2.1", 0, "not an address of this machine"),
        ("127.0.0.1", 70000, "no such port"),
        ("127.0.0.1", -1, "no such port"),
        ("a" * 64 + ".invalid", 0, "host name"),
        ("..", 0, "host name"),
    ],
)
def test_a_wrong_address_is_named(ready: Node, host: str, port: int, said: str) -> None:
    with pytest.raises(FatalError) as raised:
        HttpServer(ready.app, host, port).start()
    assert f"{host}:{port}" in raised.value.message
    assert said in raised.value.message and "http.listen" in raised.value.hint


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /livez HT",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{",
    ],
)
def test_two_hundred_stalled_connections_do_not_stop_probes(serve: Serve, sent: bytes) -> None:
    address = serve()
    with ExitStack() as stalled:
        for _ in range(200):
            stalled.enter_context(connect(address, sent))
        for path in ("/livez", "/readyz", "/metrics", "/api/v1/status"):
            assert get(address, path).status_code == 200


def test_more_connections_than_allowed_cut_the_oldest(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 8)
    address = serve()
    with ExitStack() as stalled:
        clients = [stalled.enter_context(connect(address, b"GET /")) for _ in range(20)]
        assert get(address, "/livez").status_code == 200
        assert all(ended(client) for client in clients[:12])
        assert get(address, "/livez").status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /livez HT",
        b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_a_connection_ends_at_its_deadline(serve: Serve, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    address = serve()
    with monkeypatch.context() as impatient:
        impatient.setattr(connection, "REQUEST_SECONDS", 0.2)
        with connect(address, sent) as client:
            assert ended(client)
    assert get(address, "/livez").status_code == 200


def test_a_huge_header_is_refused(serve: Serve) -> None:
    address = serve()
    with connect(address, b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 100_000) as client:
        assert ended(client)
    assert get(address, "/livez").status_code == 200


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01\x00\x01", b"garbage\r\n\r\n", b"GET \xff HTTP/1.1\r\n\r\n"]
)
def test_garbage_is_refused(serve: Serve, sent: bytes) -> None:
    address = serve()
    with connect(address, sent) as client:
        client.shutdown(socket.SHUT_WR)
        assert ended(client)
    assert get(address, "/livez").status_code == 200


def test_probes_answer_while_every_worker_waits_for_the_ledger(
    ready: Node, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, waiting = threading.Event(), threading.Semaphore(0)

    def stuck() -> list[Published]:
        waiting.release()
        release.wait(PATIENCE)
        return []

    monkeypatch.setattr(ready.ledger, "versions", stuck)
    address = serve()
    request = b"GET /api/v1/versions HTTP/1.1\r\nHost: x\r\n\r\n"
    with ExitStack() as clients:
        # More than the worker threads of the server (40).
        for _ in range(60):
            clients.enter_context(connect(address, request))
        assert all(waiting.acquire(timeout=PATIENCE) for _ in range(40))
        assert get(address, "/livez").status_code == 200
        assert get(address, "/readyz").status_code == 200
        release.set()


def test_stop_does_not_wait_for_an_answer_that_never_comes(
    ready: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    release, waiting = threading.Event(), threading.Event()

    def stuck() -> list[Published]:
        waiting.set()
        release.wait(PATIENCE)
        return []

    monkeypatch.setattr(ready.ledger, "versions", stuck)
    server = HttpServer(ready.app, "127.0.0.1", 0)
    with connect(server.start(), b"GET /api/v1/versions HTTP/1.1\r\nHost: x\r\n\r\n"):
        assert waiting.wait(PATIENCE)
        stopped = server.stop()
        release.set()
    assert stopped
    told = [record for record in caplog.records if record.levelno > logging.DEBUG]
    assert all(record.exc_info is None for record in told), "being cut off is no fault"


def test_the_server_logs_through_the_log_of_the_node(
    ready: Node, serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("internal detail")

    monkeypatch.setattr(ready.ledger, "versions", broken)
    standard_error = io.StringIO()
    monkeypatch.setattr("sys.stderr", standard_error)
    with caplog.at_level(logging.WARNING, logger="mergenode.http"):
        address = serve()
        for _ in range(5):
            assert get(address, "/api/v1/versions").status_code == 500
    (record,) = caplog.records
    assert record.name == "mergenode.http" and record.levelno == logging.ERROR
    assert record.exc_info is not None and "internal detail" in str(record.exc_info[1])
    assert standard_error.getvalue() == ""
