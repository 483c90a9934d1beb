"""Who calls: names of certificates, patterns of roles, tokens, and who is trusted without either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import pytest
import trustme

from mergenode.adapters.peers.access.callers import Caller, Callers, Role, Stranger, UnknownCallerError, caller_named
from mergenode.adapters.peers.access.tokens import TokenFault
from mergenode.adapters.peers.port.channels import open_channel
from mergenode.settings.peers import RoleSettings
from tests.support.peer_ports import PATTERNS, Trial, call, open_port

PEER = "spiffe://mergenode/peer/a"


@dataclass
class Connection:
    """As much of a context as is asked for."""

    names: Mapping[str, Sequence[bytes]] = field(default_factory=dict)
    tls: bool = True
    metadata: tuple[tuple[str, str | bytes], ...] = ()
    address: str = "ipv4:10.0.0.7:4711"

    def auth_context(self) -> dict[str, Sequence[bytes]]:
        return {"transport_security_type": [b"ssl" if self.tls else b"insecure"], **self.names}

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self.metadata

    def peer(self) -> str:
        return self.address


def recognised(connection: Connection, callers: Callers | None = None) -> Caller:
    return (callers or Callers(PATTERNS)).recognise(cast(grpc.aio.ServicerContext[Any, Any], connection))


def test_the_default_patterns_of_the_settings_are_those_of_the_certificates() -> None:
    assert {role: getattr(RoleSettings(), role.value) for role in Role} == PATTERNS


@pytest.mark.parametrize(
    ("names", "name", "roles"),
    [
        ([PEER], PEER, {Role.PEER}),
        ([PEER, "spiffe://mergenode/admin/a"], PEER, {Role.PEER, Role.ADMIN}),
        (["spiffe://elsewhere/peer/a", PEER], PEER, {Role.PEER}),
        (["spiffe://elsewhere/peer/a"], "spiffe://elsewhere/peer/a", set()),
        (["spiffe://mergenode/peer/"], "spiffe://mergenode/peer/", {Role.PEER}),
        (["spiffe://mergenode/peers/a"], "spiffe://mergenode/peers/a", set()),
        (["http://x/spiffe://mergenode/peer/a"], "http://x/spiffe://mergenode/peer/a", set()),
        (["SPIFFE://mergenode/peer/a"], "SPIFFE://mergenode/peer/a", set()),
    ],
)
def test_roles_follow_from_the_names(names: list[str], name: str, roles: set[Role]) -> None:
    found = caller_named(names, PATTERNS)
    assert (found.name, found.roles) == (name, roles)


def test_dns_names_fit_their_own_patterns_alone() -> None:
    patterns = {Role.PEER: ("*.Nodes.example.org", "node-a")}
    fits = {name: bool(caller_named([name], patterns).roles) for name in (
        "a.nodes.example.org", "node-a", "x.b.nodes.example.org", "nodes.example.org", "node-ab",
        "spiffe://evil/a.nodes.example.org", "spiffe://node-a",
    )}  # fmt: skip
    assert [name for name, fit in fits.items() if fit] == ["a.nodes.example.org", "node-a", "x.b.nodes.example.org"]
    assert caller_named(["x"], {Role.ADMIN: ("*",)}).roles and caller_named([PEER], {Role.ADMIN: ("*",)}).roles
    assert not caller_named(["spiffe.mergenode"], {Role.ADMIN: ("spiffe:*",)}).roles


def test_names_come_from_where_the_handshake_put_them() -> None:
    found = recognised(Connection({"peer_uri": [PEER.encode()], "peer_dns": [b"A.example.org"]}))
    assert found == Caller(PEER, frozenset({Role.PEER}))
    dns = Callers({Role.PEER: ("a.example.org",)})
    assert recognised(Connection({"peer_dns": [b"A.example.org"]}), dns).name == "a.example.org"
    elsewhere = {"peer_email": [PEER.encode()], "x509_common_name": [PEER.encode()], "peer_ip": [b"10.0.0.7"]}
    with pytest.raises(UnknownCallerError) as unknown:
        recognised(Connection(elsewhere))
    assert unknown.value.fault is Stranger.NO_CREDENTIALS


ODD = (b"", b"\xff" * 20, b"spiffe://mergenode/peer/\x00", b"spiffe://mergenode/peer/\n", PEER.encode() + b"a" * 600)


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_no_names(name: bytes) -> None:
    with pytest.raises(UnknownCallerError):
        recognised(Connection({"peer_uri": [name]}))
    with pytest.raises(UnknownCallerError):
        recognised(Connection({"peer_dns": [name]}), Callers({Role.PEER: ("*",)}))


def test_a_uri_in_the_place_of_a_dns_name_is_none() -> None:
    with pytest.raises(UnknownCallerError):
        recognised(Connection({"peer_dns": [PEER.encode()]}))


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("ipv4:10.0.0.7:4711", "ipv4:10.0.0.7"),
        ("ipv6:%5B::1%5D:4711", "ipv6:[::1]"),
        ("ipv4:10.0.0.7:1", "ipv4:10.0.0.7"),
    ],
)
def test_without_tls_it_is_the_address_and_only_where_that_is_wanted(address: str, name: str) -> None:
    plain = Connection({"peer_uri": [PEER.encode()]}, tls=False, address=address)
    assert recognised(plain, Callers(PATTERNS, trusting=True)) == Caller(name, frozenset(Role))
    with pytest.raises(UnknownCallerError):
        recognised(plain)


def test_trust_does_not_reach_beyond_plaintext() -> None:
    with pytest.raises(UnknownCallerError):
        recognised(Connection(), Callers(PATTERNS, trusting=True))


def test_a_token_speaks_for_the_caller_alone(trial: Trial) -> None:
    callers = Callers(PATTERNS, trial.verifier())
    metadata = (("authorization", f"bearer  {trial.token('a', 'b', quota=7)} "),)
    admin = {"peer_uri": [b"spiffe://mergenode/admin/x"]}
    found = recognised(Connection(admin, metadata=metadata), callers)
    assert found == Caller("token:team", frozenset({Role.PUSHER}), frozenset({"push:a", "push:b"}), 7)
    assert [found.may_push(lineage) for lineage in ("a", "b", "c", "*", "")] == [True, True, False, False, False]


def test_a_token_where_none_are_taken_is_refused_over_tls_and_ignored_without() -> None:
    metadata = (("authorization", "Bearer x"),)
    with pytest.raises(UnknownCallerError) as unknown:
        recognised(Connection({"peer_uri": [PEER.encode()]}, metadata=metadata))
    assert unknown.value.fault is Stranger.TOKENS_OFF
    assert recognised(Connection(tls=False, metadata=metadata), Callers(PATTERNS, trusting=True)).roles == set(Role)


def test_faults_of_tokens_are_told_to_metrics(trial: Trial) -> None:
    with pytest.raises(UnknownCallerError) as unknown:
        recognised(
            Connection(metadata=(("authorization", f"Bearer {trial.token(days=-1)}"),)),
            Callers(PATTERNS, trial.verifier()),
        )
    assert unknown.value.fault is TokenFault.EXPIRED


def test_certificates_push_into_every_lineage_if_they_push_at_all() -> None:
    assert caller_named(["spiffe://mergenode/pusher/x"], PATTERNS).may_push("anything")
    assert caller_named([PEER], PATTERNS).may_push("anything")  # a node forwards what it folded
    assert not Caller("a", frozenset({Role.ADMIN})).may_push("anything")
    assert Caller("t", frozenset({Role.PUSHER}), frozenset({"push:*"})).may_push("anything")


def test_a_handler_knows_who_calls(trial: Trial) -> None:
    from mergenode.adapters.peers.access.callers import caller_of

    async def hello(request: bytes, context: Any) -> bytes:
        return caller_of(context).name.encode()

    async def fetch(request: bytes, context: Any) -> Any:
        for _ in range(2):
            yield caller_of(context).name.encode()

    def register(server: grpc.aio.Server) -> None:
        for service, handlers in {
            "Peer": {"Hello": grpc.unary_unary_rpc_method_handler(hello)},
            "Blobs": {"Fetch": grpc.unary_stream_rpc_method_handler(fetch)},
        }.items():
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(f"mergenode.v1.{service}", handlers),)
            )

    with open_port(trial, [register]) as opened:
        for name in ("one", "two"):
            with open_channel(opened.address, trial.caller("peer", name)) as channel:
                expected = f"spiffe://mergenode/peer/{name}".encode()
                assert call(channel, "/mergenode.v1.Peer/Hello") == [expected]
                assert call(channel, "/mergenode.v1.Blobs/Fetch") == [expected] * 2


def test_dns_names_of_another_authoritys_certificates_work(trial: Trial) -> None:
    """As cert-manager issues them: a DNS name and no URI."""
    from mergenode.adapters.peers.access.authorising import Authoriser
    from mergenode.adapters.peers.port.draining import Draining
    from mergenode.adapters.peers.port.server import PeerServer, Port
    from tests.support.peer_ports import code_of, register_everything

    authority = trustme.CA()
    node, pod = authority.issue_cert("localhost"), authority.issue_cert("mergenode-1.mergenode.svc")
    roots = authority.cert_pem.bytes()

    def pair(leaf: trustme.LeafCert) -> tuple[bytes, bytes]:
        return leaf.private_key_pem.bytes(), leaf.cert_chain_pems[0].bytes()

    credentials = grpc.ssl_server_credentials([pair(node)], roots, True)
    callers = Callers({Role.PEER: ("mergenode-*.mergenode.svc",)})
    server = PeerServer(
        [Port("127.0.0.1", 0, credentials)], [register_everything], Authoriser(callers, Draining())
    )  # fmt: skip
    ((_, port),) = server.start()
    try:
        with open_channel(f"localhost:{port}", grpc.ssl_channel_credentials(roots, *pair(pod))) as channel:
            assert code_of(channel, "/mergenode.v1.Peer/Hello") is grpc.StatusCode.OK
            assert code_of(channel, "/mergenode.v1.Admin/Ban") is grpc.StatusCode.PERMISSION_DENIED
    finally:
        assert server.stop(0.0)
