"""Bytes of any kind on every call: the server lives, its memory stays, and others are answered."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import grpc
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.peers.access.authorising import REFLECTION, RULES
from mergenode.adapters.peers.port.admin_service import AdminService
from mergenode.adapters.peers.port.channels import open_channel
from tests.support.fake_administration import FakeAdministration
from tests.support.peer_ports import METHODS, OpenPort, Trial, code_of, open_port, register_everything

MEMORY = 256 << 20
HEALTH = "/grpc.health.v1.Health/Check"
EXPECTED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.UNIMPLEMENTED,
}

NUMBERS = st.integers(0, 2**64 - 1)
TAGS, TAILS = st.integers(1, 15), st.binary(max_size=40)
MESSAGES = st.one_of(
    st.binary(max_size=300),
    st.lists(st.binary(max_size=20), max_size=30).map(b"\x0a\x05hello".join),
    st.builds(lambda tag, size, tail: bytes([tag * 8 + 2]) + varint(size) + tail, TAGS, NUMBERS, TAILS),
    st.builds(lambda tag, value: bytes([tag * 8]) + varint(value), TAGS, NUMBERS),
    st.integers(1, 2000).map(lambda depth: b"\x0a\x7f" * depth),
)
KEYS = st.sampled_from(["authorization", "x", "grpc-status-details-x"])
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=100)
NAMES = st.text(st.sampled_from("abcXYZ019-_./ "), max_size=40).map(lambda name: f"/{name}")


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


@pytest.fixture(scope="module")
def node() -> FakeAdministration:
    return FakeAdministration(uuid4())


@pytest.fixture(scope="module")
def fuzzed(node: FakeAdministration) -> Iterator[tuple[OpenPort, grpc.Channel]]:
    """Everything behind one port, without TLS so that all of it is reached."""

    def register(server: grpc.aio.Server) -> None:
        register_everything(server)
        AdminService(node, lambda _: None).register(server)

    with open_port(None, [register], reflect=True) as opened, open_channel(opened.address, None) as channel:
        assert code_of(channel, HEALTH) is grpc.StatusCode.OK
        yield opened, channel


def test_no_message_of_any_call_hurts(fuzzed: tuple[OpenPort, grpc.Channel]) -> None:
    _, channel = fuzzed
    process = psutil.Process()
    methods = [*METHODS, HEALTH, f"/{REFLECTION}/ServerReflectionInfo"]
    before = process.memory_info().rss

    @given(st.sampled_from(methods), st.lists(MESSAGES, min_size=1, max_size=4))
    @settings(deadline=None, max_examples=400)
    def fuzz(method: str, requests: list[bytes]) -> None:
        expected = EXPECTED | ({grpc.StatusCode.NOT_FOUND} if method == HEALTH else set())
        assert code_of(channel, method, requests=requests) in expected

    fuzz()
    assert code_of(channel, HEALTH) is grpc.StatusCode.OK
    assert process.memory_info().rss - before < MEMORY


@given(NAMES, st.lists(st.tuples(KEYS, VALUES), max_size=4))
@settings(deadline=None, max_examples=200)
def test_no_name_and_no_metadata_hurt(
    trial: Trial, port: OpenPort, method: str, metadata: list[tuple[str, str]]
) -> None:
    with open_channel(port.address, trial.caller("peer")) as channel:
        assert code_of(channel, method, metadata=tuple(metadata)) is grpc.StatusCode.UNIMPLEMENTED
        hello = code_of(channel, "/mergenode.v1.Peer/Hello", metadata=tuple(metadata))
    spoke = any(key == "authorization" for key, _ in metadata)
    assert hello is (grpc.StatusCode.UNAUTHENTICATED if spoke else grpc.StatusCode.OK)


@pytest.mark.parametrize("method", METHODS)
def test_the_largest_message_of_small_parts_is_bounded(fuzzed: tuple[OpenPort, grpc.Channel], method: str) -> None:
    _, channel = fuzzed
    process = psutil.Process()
    before = process.memory_info().rss
    for tag in range(1, 11):
        requests = [bytes([tag * 8 + 2, 0]) * (RULES[method].most_bytes // 2)]
        assert code_of(channel, method, requests=requests) in EXPECTED
    assert process.memory_info().rss - before < MEMORY
