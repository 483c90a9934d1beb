"""Long work on the page, in the status document, and asked for from another process."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from mergenode.adapters.http import asking
from mergenode.adapters.http.asking import NoAnswer, address_text, ask_status
from mergenode.ports.observer import Progress
from tests.support.status_node import Node


def test_the_document_lists_what_is_under_way(ready: Node) -> None:
    ready.live.progress(Progress("fold", "team-1", 0, 10, 0, 1000))
    ready.live.progress(Progress("transfer", "model ab", 0, 0, 1, 10, peer="north"))
    ready.clock.advance(4.0)
    ready.live.progress(Progress("fold", "team-1", 5, 10, 500, 1000))
    fold, transfer = ready.request("/api/v1/status").json()["activities"]
    assert (fold["kind"], fold["rate"], fold["remaining_seconds"]) == ("fold", 125.0, 4.0)
    assert (transfer["kind"], transfer["peer"], transfer["rate"]) == ("transfer", "north", None)
    assert ready.request("/api/v1/status").json()["running"]["activity"] == "fold"


def test_the_page_has_a_bar_for_each(ready: Node) -> None:
    ready.live.progress(Progress("fold", "<b>team-1</b>", 1, 4, 10, 40))
    page = ready.request("/").text
    assert 'value="0.2500"' in page and "fold of &lt;b&gt;team-1&lt;/b&gt;" in page and "<b>team" not in page
    ready.live.progress(Progress("fold", "<b>team-1</b>", 4, 4, 40, 40, over=True))
    assert "<progress" not in ready.request("/").text


def test_what_cannot_be_measured_has_a_bar_without_a_value(ready: Node) -> None:
    assert "<progress" not in ready.request("/").text
    ready.live.progress(Progress("training", 'round "3"\x1b[31m', 0, 0, 0, 0))
    page = ready.request("/").text
    (bar,) = re.findall("<progress[^>]*>", page)
    assert "value" not in bar and "\x1b" not in page and '"3"' not in page


@contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[int]:
    """A port that always answers the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_who_listens_everywhere_is_asked_here() -> None:
    with answering(b'{"node": "n", "activities": []}') as port:
        assert ask_status("0.0.0.0", port, seconds=30.0)["node"] == "n"
    assert address_text("::", 9464) == "http://[::1]:9464/api/v1/status"


@pytest.mark.parametrize("body", [b"not json", b"[]", b'{"node": "older"}', b"\xff", b"{" * 100_000])
def test_what_is_no_node_is_refused_by_its_address(body: bytes) -> None:
    with (
        answering(body) as port,
        pytest.raises(NoAnswer, match=f"//127.0.0.1:{port}/api/v1/status answers 200"),
    ):
        ask_status("127.0.0.1", port, seconds=30.0)


def test_an_answer_without_end_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MAX_BYTES", 10)
    with answering(b'{"node": "n", "activities": []}') as port, pytest.raises(NoAnswer):
        ask_status("127.0.0.1", port, seconds=30.0)


def test_nobody_there() -> None:
    with answering(b"") as port:
        pass
    with pytest.raises(NoAnswer, match=f":{port}/api/v1/status does not answer: .*refused"):
        ask_status("127.0.0.1", port, seconds=30.0)
