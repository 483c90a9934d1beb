"""Certificates in force: rotation under running connections, and what is said when a connection does not come about."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from mergenode.adapters.peers.access.connection_faults import connection_fault
from mergenode.adapters.peers.access.credentials import Tls, TlsFiles
from mergenode.adapters.peers.port.channels import open_aio_channel, open_channel
from mergenode.errors import FatalError
from tests.support.peer_ports import PATIENCE, Trial, call, code_of, open_port, register_everything

HELLO = "/mergenode.v1.Peer/Hello"
FETCH = "/mergenode.v1.Blobs/Fetch"
ONCE = (("grpc.enable_retries", 0),)


@pytest.fixture
def own(tmp_path: Path) -> Trial:
    """A trial that a test may change."""
    return Trial(tmp_path / "trial")


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return Trial(tmp_path_factory.mktemp("foreign"))


def caller_tls(trial: Trial, **given: Any) -> Tls:
    return Tls(trial.files("peer", "caller", **given), pytest.fail)


def reach(address: str, tls: Tls) -> grpc.StatusCode:
    """The status of a call on a new channel."""
    with grpc.secure_channel(address, tls.channel_credentials()[0], ONCE) as channel:
        return code_of(channel, HELLO)


class Pieces:
    """A Fetch that sends one piece whenever it is told to."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.next: asyncio.Queue[bytes] = asyncio.Queue()

    async def fetch(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.loop = asyncio.get_running_loop()
        yield b"first"
        while True:
            yield await self.next.get()

    def send(self, piece: bytes) -> None:
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self.next.put_nowait, piece)

    def register(self, server: grpc.aio.Server) -> None:
        register_everything(server)
        handlers = {"Fetch": grpc.unary_stream_rpc_method_handler(self.fetch)}
        server.add_registered_method_handlers("mergenode.v1.Blobs", handlers)


def test_everything_is_replaced_under_a_running_stream(own: Trial) -> None:
    """Certificate, key and authority of the server: the stream lives on, and only the new ones open new connections."""
    told: list[str] = []
    tls, pieces = own.node(told.append), Pieces()
    old_caller = Tls(own.files("peer", "old"), pytest.fail)
    with (
        open_port(own, [pieces.register], tls=tls) as opened,
        open_channel(opened.address, old_caller.channel_credentials()[0]) as channel,
    ):
        stream = channel.unary_stream(FETCH)(b"", timeout=PATIENCE)
        assert next(stream) == b"first"

        own.folder.initialise(30, force=True)
        for role, name, hosts in (("peer", "node", ("127.0.0.1",)), ("peer", "new", ())):
            own.folder.issue(role, name, hosts, 5, force=name == "node")
        new_caller = Tls(own.files("peer", "new"), pytest.fail)

        assert reach(opened.address, new_caller) is grpc.StatusCode.OK
        assert reach(opened.address, old_caller) is grpc.StatusCode.UNAVAILABLE
        pieces.send(b"second")
        assert next(stream) == b"second"
        assert code_of(channel, HELLO) is grpc.StatusCode.OK, "the old connection serves new calls, too"
    assert tls.current()[1] > 1


def test_while_both_authorities_are_named_nobody_is_refused(own: Trial) -> None:
    old_caller, tls = caller_tls(own), own.node()
    authority = tls.files.authority
    with open_port(own, [register_everything], tls=tls) as opened:
        assert reach(opened.address, old_caller) is grpc.StatusCode.OK
        old_authority = authority.read_bytes()
        own.folder.initialise(30, force=True)
        own.folder.issue("peer", "new", (), 5)
        authority.write_bytes(old_authority + (own.path / "ca.crt").read_bytes())
        new_files = own.files("peer", "new")
        shutil.copy(authority, new_files.authority)  # the other end, too, knows both
        assert reach(opened.address, Tls(new_files, pytest.fail)) is grpc.StatusCode.OK
        assert reach(opened.address, old_caller) is grpc.StatusCode.OK


def test_a_half_written_rotation_keeps_serving_and_is_told_once(own: Trial) -> None:
    told: list[str] = []
    caller, tls = caller_tls(own), own.node(told.append)
    certificate, key = tls.files.certificate, tls.files.key
    assert certificate is not None and key is not None
    other = own.folder.issue("peer", "other", ("127.0.0.1",), 5)
    with open_port(own, [register_everything], tls=tls) as opened:
        assert reach(opened.address, caller) is grpc.StatusCode.OK
        shutil.copy(other / "tls.crt", certificate)
        for _ in range(3):
            assert reach(opened.address, caller) is grpc.StatusCode.OK
        assert len(told) == 1 and "is not the key of the first certificate" in told[0]
        shutil.copy(other / "tls.key", key)
        assert reach(opened.address, caller) is grpc.StatusCode.OK
        assert len(told) == 1
    assert tls.current()[0].certificate == (other / "tls.crt").read_bytes()


def test_a_client_makes_a_new_channel_when_its_files_changed(own: Trial) -> None:
    tls, caller = own.node(), caller_tls(own)
    with open_port(own, [register_everything], tls=tls) as opened:
        credentials, generation = caller.channel_credentials()
        with open_channel(opened.address, credentials) as before:
            assert code_of(before, HELLO) is grpc.StatusCode.OK
            assert caller.current()[1] == generation
            own.folder.initialise(30, force=True)
            own.folder.issue("peer", "node", ("127.0.0.1",), 5, force=True)
            own.folder.issue("peer", "caller", (), 5, force=True)
            assert caller.current()[1] > generation
            with open_channel(opened.address, caller.channel_credentials()[0]) as after:
                assert code_of(after, HELLO) is grpc.StatusCode.OK
            assert code_of(before, HELLO) is grpc.StatusCode.OK, "what is open lives on"


class TestFaults:
    """What is said when a connection does not come about."""

    def fault(self, address: str, tls: Tls | None, target: str | None = None) -> str | None:
        credentials = None if tls is None else tls.channel_credentials()[0]
        channel = (
            grpc.insecure_channel(address, ONCE)
            if credentials is None
            else grpc.secure_channel(address, credentials, ONCE)
        )
        with channel, pytest.raises(grpc.RpcError) as failed:
            call(channel, HELLO)
        return connection_fault(
            failed.value, address, None if tls is None else (tls.files, tls.current()[0]), time.time()
        )

    def test_of_servers(self, own: Trial, foreign: Trial) -> None:
        caller = caller_tls(own)
        own.folder.issue("peer", "node", ("127.0.0.1",), -1)
        with open_port(own) as opened:
            assert self.fault(opened.address, caller) == f"{opened.address} shows a certificate that has expired"
        own.folder.issue("peer", "node", ("elsewhere",), 1, force=True)
        with open_port(own) as opened:
            said = f"{opened.address} shows a certificate that is not for the name 127.0.0.1"
            assert self.fault(opened.address, caller) == said
        with open_port(foreign) as opened:
            said = f"{opened.address} shows a certificate that was not signed by {caller.files.authority}"
            assert self.fault(opened.address, caller) == said
        with open_port(None) as opened:
            assert self.fault(opened.address, caller) == f"{opened.address} does not speak TLS; this side does"
        said = f"{opened.address} refuses connections: nothing listens there"
        assert self.fault(opened.address, caller) == said

    def test_of_clients(self, own: Trial, foreign: Trial) -> None:
        hung_up = "{} hung up: {}"
        with open_port(own) as opened:
            strange = replace(caller_tls(foreign).files, authority=own.path / "ca.crt")
            for tls, why in (
                (
                    Tls(strange, pytest.fail),
                    f"it may not accept {strange.certificate}, being signed by another authority",
                ),
                (Tls(TlsFiles(own.path / "ca.crt"), pytest.fail), "it may want a certificate, and there is none here"),
                (None, "it may want TLS, which this side does not use"),
            ):
                assert self.fault(opened.address, tls) == hung_up.format(opened.address, why)
            expired = caller_tls(own, days=-1)
            why = f"the certificate {expired.files.certificate} of this side has expired"
            assert self.fault(opened.address, expired) == hung_up.format(opened.address, why)

    def test_of_calls_that_reached_the_other_end_nothing_is_said(self, own: Trial) -> None:
        with (
            open_port(own) as opened,
            open_channel(opened.address, caller_tls(own).channel_credentials()[0]) as channel,
            pytest.raises(grpc.RpcError) as failed,
        ):
            call(channel, "/mergenode.v1.Admin/Ban")
        assert connection_fault(failed.value, opened.address, None, time.time()) is None
        assert connection_fault(grpc.RpcError(), opened.address, None, time.time()) is None

    def test_of_coroutines(self, own: Trial) -> None:
        async def ask() -> str | None:
            async with open_aio_channel("localhost:1", None) as channel:
                try:
                    await channel.unary_unary(FETCH)(b"", timeout=PATIENCE)
                except grpc.RpcError as error:
                    return connection_fault(error, "localhost:1", None, time.time())
            return ""

        with open_port(None) as opened:
            said = opened.server.call_soon(ask()).result(PATIENCE)
        assert said == "localhost:1 refuses connections: nothing listens there"


class TestFiles:
    @pytest.fixture
    def files(self, own: Trial) -> Iterator[TlsFiles]:
        yield own.files("peer", "node", ("a.example.org", "10.0.0.7"))

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("tls.crt", b""),
            ("tls.crt", None),
            ("tls.key", b"key"),
            ("tls.key", None),
            ("ca.crt", b"\xff"),
            ("ca.crt", None),
        ],
    )
    def test_what_makes_no_sense_is_fatal_at_the_start(self, files: TlsFiles, name: str, content: bytes | None) -> None:
        path = files.authority.with_name(name)
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(FatalError) as told:
            Tls(files, pytest.fail)
        assert str(path) in told.value.message and "peers.tls" in told.value.hint

    def test_a_key_of_another_certificate_is_fatal(self, own: Trial, files: TlsFiles) -> None:
        other = own.files("peer", "other")
        with pytest.raises(FatalError, match="is not the key of"):
            Tls(replace(files, key=other.key), pytest.fail)

    def test_names_and_days_are_known(self, files: TlsFiles) -> None:
        material, generation = Tls(files, pytest.fail).current()
        assert generation == 1 and material.names.cover("a.example.org") and not material.names.cover("b.example.org")
        left = material.seconds_left(datetime.now(UTC).timestamp())
        assert left is not None and timedelta(days=4) < timedelta(seconds=left) < timedelta(days=5)
        assert "PRIVATE" not in repr(material)

    def test_with_an_authority_alone_nothing_expires(self, own: Trial) -> None:
        _ = own.folder
        material, _ = Tls(TlsFiles(own.path / "ca.crt"), pytest.fail).current()
        assert material.certificate is None and material.seconds_left(time.time()) is None
