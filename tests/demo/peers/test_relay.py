"""The wire that can be cut, between real processes that are not told."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from mergenode.demo.peers.relay import Relay

SECONDS = 60.0

ECHO = """
import socket, threading
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
def serve(line):
    with line:
        while data := line.recv(1 << 16):
            line.sendall(data)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""

CALLER = """
import socket, sys
line = None
for text in sys.stdin:
    word = text.split()
    try:
        if word[0] == "call":
            line = socket.create_connection(("127.0.0.1", int(word[1])), timeout=60)
            line.sendall(b"hello")
            answer = line.recv(100)
        elif word[0] == "send":
            line.sendall(word[1].encode())
            answer = line.recv(100)
        print(answer.decode() or "closed", flush=True)
    except OSError:
        print("closed", flush=True)
"""


class Caller:
    """A process that connects when it is told to."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CALLER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, request: str) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def echo(stack: ExitStack) -> tuple[str, int]:
    process = subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    stack.callback(process.stdout.close)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return "127.0.0.1", int(process.stdout.readline())


def callers(stack: ExitStack, count: int) -> list[Caller]:
    made = [Caller() for _ in range(count)]
    for caller in made:
        stack.callback(caller.close)
    return made


def test_a_cut_hits_whom_it_is_meant_for(stack: ExitStack, echo: tuple[str, int]) -> None:
    near, far = callers(stack, 2)
    outside: set[int | None] = set()
    relay = Relay(echo, lambda: [near.process.pid, far.process.pid], lambda pid: pid not in outside)
    stack.callback(relay.close)
    assert [each.ask(f"call {relay.port}") for each in (near, far)] == ["hello", "hello"]
    outside.add(far.process.pid)
    assert relay.cut() == 1
    assert far.ask("send x") == "closed"
    assert far.ask(f"call {relay.port}") == "closed"
    assert near.ask("send still") == "still"
    assert near.ask(f"call {relay.port}") == "hello"
    outside.clear()
    assert far.ask(f"call {relay.port}") == "hello"
    assert (relay.refused, relay.cut_lines) == (1, 1)


def test_a_process_that_nobody_knows_has_no_name(stack: ExitStack, echo: tuple[str, int]) -> None:
    (stranger,) = callers(stack, 1)
    seen: list[int | None] = []

    def allowed(pid: int | None) -> bool:
        seen.append(pid)
        return pid is not None

    relay = Relay(echo, list, allowed)
    stack.callback(relay.close)
    assert stranger.ask(f"call {relay.port}") == "closed"
    assert seen == [None]


def test_nobody_behind_it_is_a_closed_connection(stack: ExitStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        gone = probe.getsockname()
    relay = Relay(gone, list, lambda pid: True)
    stack.callback(relay.close)
    with socket.create_connection(("127.0.0.1", relay.port), timeout=SECONDS) as line:
        assert line.recv(10) == b""


def test_large_answers_pass_whole_and_closing_ends_all(stack: ExitStack, echo: tuple[str, int]) -> None:
    relay = Relay(echo, list, lambda pid: True)
    stack.callback(relay.close)
    with socket.create_connection(("127.0.0.1", relay.port), timeout=SECONDS) as line:
        for block in (b"a" * 50_000, b"b" * 70_000):
            line.sendall(block)
            received = bytearray()
            while len(received) < len(block):
                received += line.recv(1 << 16)
            assert bytes(received) == block
        relay.close()
        with pytest.raises(OSError):  # which one depends on what was under way
            if line.recv(10) == b"":
                raise ConnectionResetError
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", relay.port), timeout=SECONDS)
