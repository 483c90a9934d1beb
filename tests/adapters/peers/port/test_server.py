"""The port itself: start, limits, health, draining, stop, and many who do not read."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from mergenode.adapters.peers.access.authorising import Authoriser
from mergenode.adapters.peers.access.callers import Callers
from mergenode.adapters.peers.port import channels
from mergenode.adapters.peers.port.channels import open_aio_channel, open_channel
from mergenode.adapters.peers.port.draining import Draining
from mergenode.adapters.peers.port.refusals import refusal_of
from mergenode.adapters.peers.port.server import OPTIONS, PeerServer, Port
from mergenode.errors import FatalError
from mergenode.wire.v1.objects_pb2 import Refusal
from tests.support.peer_ports import PATIENCE, PATTERNS, OpenPort, Trial, call, code_of, open_port, register_everything

FETCH = "/mergenode.v1.Blobs/Fetch"
HELLO = "/mergenode.v1.Peer/Hello"
MEBIBYTE = 1 << 20
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Source:
    """A Fetch that sends piece after piece, as long as it is let, and knows how many calls are under way."""

    def __init__(self, piece: bytes, pieces: int = 1 << 30) -> None:
        self.piece, self.pieces = piece, pieces
        self.changed = threading.Condition()
        self.running = 0
        self.cleaned = 0

    async def fetch(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self._count(1, 0)
        try:
            for _ in range(self.pieces):
                yield self.piece
        finally:
            self._count(-1, 1)

    def _count(self, running: int, cleaned: int) -> None:
        with self.changed:
            self.running += running
            self.cleaned += cleaned
            self.changed.notify_all()

    def wait_for(self, running: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.running == running, PATIENCE)

    def register(self, server: grpc.aio.Server) -> None:
        async def echo(request: bytes, context: Any) -> bytes:
            return request

        for service, handlers in {
            "Blobs": {"Fetch": grpc.unary_stream_rpc_method_handler(self.fetch)},
            "Peer": {"Hello": grpc.unary_unary_rpc_method_handler(echo)},
        }.items():
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(f"mergenode.v1.{service}", handlers),)
            )


def check(channel: grpc.Channel, service: str = "", timeout: float = PATIENCE) -> Any:
    stub = health_pb2_grpc.HealthStub(channel)
    return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout).status


def plain_server(port: Port, register: Any = register_everything) -> PeerServer:
    return PeerServer([port], [register], Authoriser(Callers(PATTERNS, trusting=True), Draining()))


class TestStart:
    def test_a_taken_port_is_named_with_the_setting_and_who_holds_it(self) -> None:
        with open_port(None) as opened:
            taken = int(opened.address.rpartition(":")[2])
            server = plain_server(Port("127.0.0.1", taken))
            with pytest.raises(FatalError, match=f"127.0.0.1:{taken}: address in use by process") as told:
                server.start()
            assert "peers.listen" in told.value.hint
            assert server.stop(0.0)

    def test_hosts_that_cannot_be(self) -> None:
        for host in ("no..host", "203.0.113.1"):
            with pytest.raises(FatalError, match="cannot listen on") as told:
                plain_server(Port(host, 50051, setting="peers.tokens.listen")).start()
            assert "peers.tokens.listen" in told.value.hint
        with pytest.raises(FatalError, match="cannot listen on"):
            plain_server(Port("203.0.113.1", 0)).start()

    def test_a_port_is_free_again_at_once(self) -> None:
        with open_port(None) as opened:
            port = int(opened.address.rpartition(":")[2])
        for _ in range(2):
            server = plain_server(Port("127.0.0.1", port))
            assert server.start() == [("127.0.0.1", port)]
            assert server.stop(0.0) and server.stop(0.0)

    def test_one_that_was_never_started_stops(self) -> None:
        server = plain_server(Port("127.0.0.1", 0))
        assert server.stop(0.0)

        async def nothing() -> None:
            pass

        with pytest.raises(RuntimeError):
            server.call_soon(nothing())

    def test_ipv6(self) -> None:
        if not socket.has_ipv6:
            pytest.skip("no IPv6 here")
        server = plain_server(Port("::1", 0))
        ((host, port),) = server.start()
        try:
            with open_channel(f"[{host}]:{port}", None) as channel:
                assert code_of(channel, HELLO) is grpc.StatusCode.OK
        finally:
            assert server.stop(0.0)


def test_the_transport_is_set_as_the_design_says() -> None:
    common = {
        "grpc.max_receive_message_length": 4 * MEBIBYTE,
        "grpc.max_send_message_length": 4 * MEBIBYTE,
        "grpc.max_metadata_size": 16384,
        "grpc.absolute_max_metadata_size": 16384,
        "grpc.compression_enabled_algorithms_bitset": 1,
        "grpc.keepalive_time_ms": 30_000,
        "grpc.keepalive_timeout_ms": 10_000,
        "grpc.http2.ping_timeout_ms": 10_000,
        "grpc.http2.max_pings_without_data": 0,
    }
    server = {
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.min_ping_interval_without_data_ms": 10_000,
        "grpc.max_concurrent_streams": 64,
        "grpc.max_connection_age_ms": 3_600_000,
        "grpc.max_connection_age_grace_ms": 600_000,
        "grpc.so_reuseport": 0,
    }
    assert dict(OPTIONS) == common | server
    assert common.items() <= dict(channels.OPTIONS).items()
    for options in (OPTIONS, channels.OPTIONS):
        assert not [name for name, _ in options if "bdp" in name or "lookahead" in name or "target_name" in name]
    window = {"grpc.http2.bdp_probe": 0, "grpc.http2.lookahead_bytes": 16 * MEBIBYTE}
    assert window.items() <= dict(channels.BULK).items()
    assert common.items() <= dict(channels.BULK).items()


def test_no_address_reaches_another_resolver() -> None:
    for address in (
        "unix:/tmp/x",
        "dns:///a:1",
        "a",
        "a:0",
        "a:70000",
        ":1",
        "ipv4:1.2.3.4:1",
        "a b:1",
        "::1:5",
        "a:1\n",
    ):
        with pytest.raises(ValueError, match="not an address"):
            open_channel(address, None)


class TestLimits:
    def test_messages_of_four_mebibytes_and_not_one_more(self) -> None:
        for size, code in ((4 * MEBIBYTE, grpc.StatusCode.OK), (4 * MEBIBYTE + 1, grpc.StatusCode.RESOURCE_EXHAUSTED)):
            source = Source(bytes(size), pieces=1)
            with open_port(None, [source.register]) as opened, open_channel(opened.address, None) as channel:
                assert code_of(channel, FETCH) is code
                free = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
                with grpc.insecure_channel(opened.address, free) as careless:
                    assert code_of(careless, FETCH) is code, "the server keeps to it, too"
                    above = code_of(careless, HELLO, requests=[bytes(4 * MEBIBYTE + 1)])
                    assert above is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert check(channel) == SERVING

    @pytest.mark.parametrize(("method", "most"), [(HELLO, 65536), (FETCH, MEBIBYTE + 65536)])
    def test_requests_are_smaller_than_that(self, method: str, most: int) -> None:
        source = Source(b"", pieces=1)
        with open_port(None, [source.register]) as opened, open_channel(opened.address, None) as channel:
            assert code_of(channel, method, requests=[bytes(most)]) is grpc.StatusCode.OK
            with pytest.raises(grpc.RpcError) as refused:
                call(channel, method, [bytes(most + 1)])
            told = refusal_of(refused.value)
            assert told is not None and told.code == Refusal.CODE_TOO_LARGE and str(most + 1) in told.message

    def test_metadata_of_more_than_sixteen_kibibytes_is_refused(self) -> None:
        with open_port(None, [register_everything]) as opened:
            free = (("grpc.max_metadata_size", MEBIBYTE), ("grpc.absolute_max_metadata_size", MEBIBYTE))
            with grpc.insecure_channel(opened.address, free) as channel:
                large = (("x", "a" * 20_000),)
                assert code_of(channel, HELLO, metadata=large) is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert code_of(channel, HELLO, metadata=(("x", "a" * 8_000),)) is grpc.StatusCode.OK

    def test_compressed_messages_are_refused_unopened(self) -> None:
        with open_port(None, [register_everything]) as opened:
            with grpc.insecure_channel(opened.address, compression=grpc.Compression.Gzip) as channel:
                assert code_of(channel, HELLO, requests=[bytes(MEBIBYTE)]) is grpc.StatusCode.UNIMPLEMENTED
            with open_channel(opened.address, None) as channel:
                assert code_of(channel, HELLO) is grpc.StatusCode.OK

    def test_bytes_that_are_no_http_hurt_nobody(self, trial: Trial) -> None:
        for mutual in (trial, None):
            with open_port(mutual, [register_everything]) as opened:
                host, _, port = opened.address.rpartition(":")
                for garbage in (
                    b"",
                    b"GET / HTTP/1.1\r\n\r\n",
                    bytes(100_000),
                    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 9000,
                ):
                    connection = socket.create_connection((host, int(port)), PATIENCE)
                    with connection, suppress(ConnectionError):
                        connection.sendall(garbage)
                credentials = trial.caller("peer") if mutual else None
                with open_channel(opened.address, credentials) as channel:
                    assert code_of(channel, HELLO) is grpc.StatusCode.OK


def test_two_hundred_who_do_not_read_keep_nobody_waiting() -> None:
    source = Source(bytes(65536))
    with open_port(None, [source.register]) as opened, ExitStack() as stack:
        readers = [stack.enter_context(open_channel(opened.address, None)) for _ in range(4)]
        streams = [channel.unary_stream(FETCH)(b"", timeout=600) for channel in readers for _ in range(50)]
        source.wait_for(200)
        assert len(streams) == 200
        with open_channel(opened.address, None) as channel:
            grpc.channel_ready_future(channel).result(PATIENCE)
            answered = 0
            for _ in range(5):  # the machine may be busy with others; a loop that is blocked answers none of them
                try:
                    answered += check(channel, timeout=1.0) == SERVING
                except grpc.RpcError as error:
                    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert answered
        for stream in streams:
            stream.cancel()
        source.wait_for(0)
    assert source.cleaned == 200


class TestHealth:
    def test_every_service_says_that_it_serves(self, trial: Trial, port: OpenPort) -> None:
        with open_channel(port.address, trial.caller("peer")) as channel:
            for service in ("", "mergenode.v1.Peer", "mergenode.v1.Blobs", "mergenode.v1.Intake", "mergenode.v1.Admin"):
                assert check(channel, service) == SERVING
            with pytest.raises(grpc.RpcError) as unknown:
                check(channel, "mergenode.v1.Other")
            assert unknown.value.code() is grpc.StatusCode.NOT_FOUND

    def test_reflection_tells_which_services_there_are(self, trial: Trial, port: OpenPort) -> None:
        with open_channel(port.address, trial.caller("admin")) as channel:
            asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            (answer,) = stub.ServerReflectionInfo(asked, timeout=PATIENCE)
            names = {service.name for service in answer.list_services_response.service}
        assert names == {f"mergenode.v1.{name}" for name in ("Admin", "Blobs", "Intake", "Peer")} | {
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }

    def test_a_watcher_hears_of_the_drain(self) -> None:
        with open_port(None, [register_everything]) as opened, open_channel(opened.address, None) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            watched = stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=PATIENCE)
            assert next(watched).status == SERVING
            opened.server.drain()
            assert next(watched).status == NOT_SERVING
            watched.cancel()


class TestDraining:
    def test_transfers_under_way_go_on_and_new_ones_are_refused(self) -> None:
        source = Source(b"piece")
        with open_port(None, [source.register]) as opened, open_channel(opened.address, None) as channel:
            stream = channel.unary_stream(FETCH)(b"", timeout=PATIENCE)
            assert next(stream) == b"piece"
            assert opened.server.drain() == 1 and opened.server.drain() == 1
            assert next(stream) == b"piece"
            with pytest.raises(grpc.RpcError) as refused:
                call(channel, FETCH)
            told = refusal_of(refused.value)
            assert told is not None and told.code == Refusal.CODE_DRAINING and told.retry_after > 0
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert code_of(channel, HELLO) is grpc.StatusCode.OK, "control goes on"
            assert check(channel) == NOT_SERVING
            stream.cancel()
            assert opened.server.draining.wait(PATIENCE)
            assert opened.server.drain() == 0

    def test_every_transfer_is_refused_and_nothing_else(self) -> None:
        with open_port(None, [register_everything]) as opened, open_channel(opened.address, None) as channel:
            opened.server.drain()
            from tests.support.peer_ports import METHODS

            refused = {method for method in METHODS if code_of(channel, method) is grpc.StatusCode.UNAVAILABLE}
        assert refused == {
            f"/mergenode.v1.{name}"
            for name in ("Blobs/GetManifest", "Blobs/Fetch", "Intake/Begin", "Intake/Missing", "Intake/Put")
        }

    def test_stopping_waits_for_transfers(self) -> None:
        source = Source(b"x" * 65536, pieces=400)
        with open_port(None, [source.register]) as opened, open_channel(opened.address, None) as channel:
            stream = channel.unary_stream(FETCH)(b"", timeout=PATIENCE)
            received = [next(stream)]
            stopping = threading.Thread(target=opened.server.stop, args=(PATIENCE,))
            stopping.start()
            received += list(stream)
            stopping.join(PATIENCE)
        assert len(received) == 400 and source.cleaned == 1

    def test_a_transfer_that_does_not_end_is_cut_when_the_grace_is_over(self) -> None:
        source = Source(b"x" * 65536)
        with open_port(None, [source.register]) as opened, open_channel(opened.address, None) as channel:
            stream = channel.unary_stream(FETCH)(b"", timeout=PATIENCE)
            next(stream)
            assert opened.server.stop(0.0)
            with pytest.raises(grpc.RpcError) as cut:
                list(stream)
            assert cut.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        assert source.running == 0 and source.cleaned == 1

    def test_a_reader_that_leaves_frees_what_its_handler_held(self) -> None:
        source = Source(b"x" * 65536)
        with open_port(None, [source.register]) as opened:
            with open_channel(opened.address, None) as channel:
                stream = channel.unary_stream(FETCH)(b"", timeout=PATIENCE)
                next(stream)
            source.wait_for(0)
            assert opened.server.draining.wait(PATIENCE)
        assert (FETCH, "CANCELLED") in opened.answered


def test_coroutines_run_on_the_loop_of_the_server() -> None:
    async def ask(address: str) -> bytes:
        async with open_aio_channel(address, None) as channel:
            answer = await channel.unary_unary(HELLO)(b"hello", timeout=PATIENCE)
        assert threading.current_thread().name == "mergenode-peers"
        return bytes(answer)

    source = Source(b"")
    with open_port(None, [source.register]) as opened, open_port(None, [source.register]) as other:
        assert opened.server.call_soon(ask(other.address)).result(PATIENCE) == b"hello"
        assert other.server.call_soon(ask(opened.address)).result(PATIENCE) == b"hello"


def test_only_control_calls_are_tried_again() -> None:
    tries = {"Peer/Hello": 0, "Blobs/Fetch": 0, "Intake/Begin": 0}

    def failing(name: str) -> Any:
        async def fail(request: bytes, context: Any) -> None:
            tries[name] += 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "")

        return fail

    def register(server: grpc.aio.Server) -> None:
        for name in tries:
            service, _, method = name.partition("/")
            make: Any = (
                grpc.unary_stream_rpc_method_handler if method == "Fetch" else grpc.unary_unary_rpc_method_handler
            )
            handlers = {method: make(failing(name))}
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(f"mergenode.v1.{service}", handlers),)
            )

    with open_port(None, [register]) as opened, open_channel(opened.address, None) as channel:
        for name in tries:
            assert code_of(channel, f"/mergenode.v1.{name}") is grpc.StatusCode.UNAVAILABLE
    assert tries == {"Peer/Hello": 4, "Blobs/Fetch": 1, "Intake/Begin": 1}
