"""The gate: every call of the protocol, with every kind of caller that must not get in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import trustme

from mergenode.adapters.peers.access.authorising import HEALTH, REFLECTION, RULES
from mergenode.adapters.peers.access.callers import Role
from mergenode.adapters.peers.port.channels import open_channel
from mergenode.adapters.peers.port.refusals import refusal_of
from mergenode.wire.v1.objects_pb2 import Refusal
from tests.support.peer_ports import METHODS, OpenPort, Trial, call, code_of, open_port, register_everything

OTHERS = (f"/{HEALTH}/Check", f"/{HEALTH}/Watch", f"/{REFLECTION}/ServerReflectionInfo")
NEEDED = {method: RULES[method].roles for method in (*METHODS, OTHERS[2])}
"""The calls that need one of some roles; reflection is the one whose both directions are streams."""

UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
UNIMPLEMENTED, UNREACHABLE = grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE

every_call = pytest.mark.parametrize("method", NEEDED)


@pytest.fixture(scope="module")
def channels(trial: Trial, port: OpenPort) -> Iterator[dict[str, grpc.Channel]]:
    """One channel per role, one without certificate at the port of tokens, one with a certificate of no role."""
    opened = {role.value: open_channel(port.address, trial.caller(role.value)) for role in Role}
    opened["nobody"] = open_channel(port.address, trial.caller("guest"))
    opened["token"] = open_channel(port.token_address, trial.without_certificate())
    yield opened
    for channel in opened.values():
        channel.close()


def test_the_table_holds_every_call_of_the_protocol_and_nothing_else() -> None:
    """A new call needs a line in authorising.RULES."""
    assert set(RULES) == set(METHODS) | set(OTHERS)
    roles = {
        "Peer": (Role.PEER,),
        "Blobs": (Role.PEER,),
        "Intake": (Role.PUSHER, Role.PEER),
        "Admin": (Role.ADMIN,),
        "ServerReflection": (Role.ADMIN,),
    }
    for method, needed in NEEDED.items():
        assert needed == roles[method.split("/")[1].rpartition(".")[2]]


def test_all_four_kinds_of_calls_are_tried_below() -> None:
    kinds = {(method.client_streaming, method.server_streaming) for method in METHODS.values()}
    assert kinds | {(True, True)} == {(a, b) for a in (False, True) for b in (False, True)} and OTHERS[2] in NEEDED


@every_call
def test_with_the_role_it_is_served(channels: dict[str, grpc.Channel], method: str) -> None:
    assert NEEDED[method]
    for role in NEEDED[method]:
        assert code_of(channels[role.value], method) is grpc.StatusCode.OK


@every_call
def test_with_another_role_it_is_denied(channels: dict[str, grpc.Channel], port: OpenPort, method: str) -> None:
    needed = " or ".join(NEEDED[method])
    for name in ("peer", "pusher", "admin", "nobody"):
        if name in NEEDED[method]:
            continue
        port.refused.clear()
        with pytest.raises(grpc.RpcError) as denied:
            call(channels[name], method)
        assert denied.value.code() is DENIED
        refused = refusal_of(denied.value)
        assert refused is not None and refused.code == Refusal.CODE_NOT_ALLOWED
        assert f"/some-{name if name != 'nobody' else 'guest'} has not the role {needed}" in refused.message
        assert port.refused == [(method, "role")]


@every_call
def test_without_credentials_it_is_refused(channels: dict[str, grpc.Channel], port: OpenPort, method: str) -> None:
    port.refused.clear()
    with pytest.raises(grpc.RpcError) as refused:
        call(channels["token"], method)
    assert refused.value.code() is UNAUTHENTICATED
    assert port.refused == [(method, "no_credentials")]


@every_call
def test_a_wrong_token_is_refused_in_one_way(channels: dict[str, grpc.Channel], trial: Trial, method: str) -> None:
    good = trial.token()
    unsigned = good.rpartition(".")[0] + "."
    wrong = [trial.token(days=-1), good[:-8] + "AAAAAAAA", unsigned, "", "x", "a" * 9000]
    answers = set()
    for channel in (channels["token"], channels["peer"], channels["admin"]):
        for token in wrong:
            with pytest.raises(grpc.RpcError) as refused:
                call(channel, method, token=token)
            answers.add((refused.value.code(), refused.value.details()))
    assert len(answers) == 1, "which of the reasons it was is not told"
    assert next(iter(answers))[0] is UNAUTHENTICATED


@every_call
def test_a_token_pushes_and_does_nothing_else(channels: dict[str, grpc.Channel], trial: Trial, method: str) -> None:
    expected = grpc.StatusCode.OK if Role.PUSHER in NEEDED[method] else DENIED
    for channel in (channels["token"], channels["nobody"], channels["admin"]):
        assert code_of(channel, method, token=trial.token()) is expected
    assert code_of(channels["token"], method, token=trial.folder.token("t", [], None, 1, "mergenode")) is DENIED
    assert code_of(channels["token"], method, token=trial.folder.token("t", ["x"], None, 1, "other")) is UNAUTHENTICATED


@pytest.mark.parametrize("header", ["Basic YTpi", "", "Bearer", "token", b"\x00"])
def test_what_is_no_token_is_refused(channels: dict[str, grpc.Channel], header: str | bytes) -> None:
    key = "authorization" if isinstance(header, str) else "authorization-bin"
    for channel, without in ((channels["peer"], grpc.StatusCode.OK), (channels["token"], UNAUTHENTICATED)):
        expected = UNAUTHENTICATED if isinstance(header, str) else without
        assert code_of(channel, "/mergenode.v1.Peer/Hello", metadata=((key, header),)) is expected


def test_two_tokens_are_none(channels: dict[str, grpc.Channel], trial: Trial) -> None:
    twice = (("authorization", f"Bearer {trial.token()}"),) * 2
    assert code_of(channels["token"], "/mergenode.v1.Intake/Begin", metadata=twice) is UNAUTHENTICATED


@every_call
def test_foreign_expired_and_missing_certificates_do_not_connect(
    strangers: dict[str, grpc.Channel], port: OpenPort, method: str
) -> None:
    port.refused.clear()
    for channel in strangers.values():
        assert code_of(channel, method) is UNREACHABLE
    assert port.refused == [], "the gate was never reached"


@pytest.fixture(scope="module")
def strangers(
    trial: Trial, port: OpenPort, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, grpc.Channel]]:
    ours = (trial.path / "ca.crt").read_bytes()
    same_names = Trial(tmp_path_factory.mktemp("foreign")).files("peer", "some-peer")
    expired = trial.files("peer", "expired", days=-1)
    foreign = trustme.CA().issue_cert("some-peer", common_name="some-peer")
    pairs = {
        "the same names of a foreign authority": (same_names.key.read_bytes(), same_names.certificate.read_bytes()),
        "foreign": (foreign.private_key_pem.bytes(), foreign.cert_chain_pems[0].bytes()),
        "expired": (expired.key.read_bytes(), expired.certificate.read_bytes()),
        "none": (None, None),
    }
    once = (("grpc.enable_retries", 0),)
    opened = {
        name: grpc.secure_channel(port.address, grpc.ssl_channel_credentials(ours, *pair), once)
        for name, pair in pairs.items()
    }
    opened["no TLS"] = grpc.insecure_channel(port.address, once)
    yield opened
    for channel in opened.values():
        channel.close()


@pytest.mark.parametrize("method", ["/x.Y/Z", "/mergenode.v1.Peer/Nothing", f"/{HEALTH}/List", "nonsense", "/", ""])
def test_a_call_that_is_not_in_the_table_is_refused(channels: dict[str, grpc.Channel], method: str) -> None:
    for channel in channels.values():
        assert code_of(channel, method) is UNIMPLEMENTED


def test_a_call_that_is_served_but_not_in_the_table_is_refused(trial: Trial) -> None:
    called: list[bytes] = []

    async def answer(request: bytes, context: Any) -> bytes:
        called.append(request)
        return b""

    def register(server: grpc.aio.Server) -> None:
        handlers = {"Added": grpc.unary_unary_rpc_method_handler(answer)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("mergenode.v1.Peer", handlers),))

    with open_port(trial, [register]) as opened, open_channel(opened.address, trial.caller("peer")) as channel:
        assert code_of(channel, "/mergenode.v1.Peer/Added") is UNIMPLEMENTED
        assert opened.refused == [("unknown", "unknown_method")]
    assert called == []


def test_what_is_registered_without_a_rule_stops_the_start(trial: Trial) -> None:
    def register(server: grpc.aio.Server) -> None:
        server.add_registered_method_handlers(
            "mergenode.v1.Peer", {"Added": grpc.unary_unary_rpc_method_handler(lambda request, context: b"")}
        )

    with pytest.raises(AssertionError, match="Peer/Added"), open_port(trial, [register]):
        pass


def test_the_message_is_read_only_once_the_caller_is_known(channels: dict[str, grpc.Channel]) -> None:
    garbage = [b"\xff\xff\xff"]
    for method in METHODS:
        roles = NEEDED[method]
        assert roles
        for name, channel in channels.items():
            expected = (
                UNAUTHENTICATED if name == "token" else grpc.StatusCode.INVALID_ARGUMENT if name in roles else DENIED
            )
            assert code_of(channel, method, requests=garbage) is expected


def test_whoever_is_recognised_may_ask_for_health(channels: dict[str, grpc.Channel], trial: Trial) -> None:
    for name in ("peer", "pusher", "admin", "nobody"):
        assert code_of(channels[name], OTHERS[0]) is grpc.StatusCode.OK
    assert code_of(channels["token"], OTHERS[0], token=trial.token()) is grpc.StatusCode.OK
    assert code_of(channels["token"], OTHERS[0]) is UNAUTHENTICATED


def test_without_tls_everybody_may_do_everything() -> None:
    with open_port(None, [lambda server: None], reflect=True) as opened, open_channel(opened.address, None) as channel:
        assert code_of(channel, OTHERS[2]) is grpc.StatusCode.OK


def test_reflection_is_off_unless_asked_for(trial: Trial) -> None:
    with open_port(trial) as opened, open_channel(opened.address, trial.caller("admin")) as channel:
        assert code_of(channel, OTHERS[2]) is UNIMPLEMENTED


def test_what_is_answered_is_told_with_its_code(trial: Trial) -> None:
    with (
        open_port(trial, [register_everything]) as opened,
        open_channel(opened.address, trial.caller("peer")) as channel,
    ):
        code_of(channel, "/mergenode.v1.Peer/Hello")
        code_of(channel, "/mergenode.v1.Blobs/Fetch")
        code_of(channel, "/mergenode.v1.Admin/Ban")
        code_of(channel, "/mergenode.v1.Peer/Hello", requests=[b"\xff"])
    assert opened.answered == [
        ("/mergenode.v1.Peer/Hello", "OK"),
        ("/mergenode.v1.Blobs/Fetch", "OK"),
        ("/mergenode.v1.Admin/Ban", "PERMISSION_DENIED"),
        ("/mergenode.v1.Peer/Hello", "INVALID_ARGUMENT"),
    ]


def test_a_defect_of_a_handler_stays_inside(caplog: pytest.LogCaptureFixture) -> None:
    async def defective(request: Any, context: Any) -> Any:
        raise KeyError("/secret/path")

    def register(server: grpc.aio.Server) -> None:
        handlers = {"Hello": grpc.unary_unary_rpc_method_handler(defective)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("mergenode.v1.Peer", handlers),))

    with open_port(None, [register]) as opened, open_channel(opened.address, None) as channel:
        with pytest.raises(grpc.RpcError) as failed:
            call(channel, "/mergenode.v1.Peer/Hello")
        assert failed.value.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in str(failed.value.details())
    assert opened.answered == [("/mergenode.v1.Peer/Hello", "INTERNAL")]
    assert "/secret/path" in caplog.text, "the log has the cause"
