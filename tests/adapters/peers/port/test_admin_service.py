"""What operators ask of a node, through the port."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import grpc
import pytest

from mergenode.adapters.peers.port.admin_service import AdminService
from mergenode.adapters.peers.port.channels import open_channel
from mergenode.adapters.peers.port.refusals import refusal_of
from mergenode.errors import TransientError, TransientReason
from mergenode.ports.administration import Neighbour, PeerState, Sighting, Standing
from mergenode.wire.v1 import admin_pb2, admin_pb2_grpc, objects_pb2, peer_pb2
from tests.support.fake_administration import FakeAdministration
from tests.support.peer_ports import PATIENCE, Trial, open_port

ME, OTHER = uuid4(), uuid4()


@pytest.fixture
def node() -> FakeAdministration:
    return FakeAdministration(ME)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def admin(trial: Trial, node: FakeAdministration, told: list[str]) -> Iterator[admin_pb2_grpc.AdminStub]:
    service = AdminService(node, told.append)
    with (
        open_port(trial, [service.register]) as opened,
        open_channel(opened.address, trial.caller("admin", "alice")) as channel,
    ):
        yield admin_pb2_grpc.AdminStub(channel)  # type: ignore[no-untyped-call]  # generated


def refused(call: object, request: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        call(request, timeout=PATIENCE)  # type: ignore[operator]
    found = refusal_of(error.value)
    assert found is not None and isinstance(error.value, grpc.Call)
    return error.value.code(), found.message


def test_drain_says_how_much_is_under_way(
    admin: admin_pb2_grpc.AdminStub, node: FakeAdministration, told: list[str]
) -> None:
    node.transfers = 3
    assert admin.Drain(admin_pb2.DrainRequest(grace_ms=1500)).transfers == 3 and node.grace == 1.5
    admin.Drain(admin_pb2.DrainRequest(grace_ms=2**64 - 1))
    assert node.grace == 600.0
    assert told[0] == "spiffe://mergenode/admin/alice asked for no new transfers; 3 under way"


def test_a_topology_is_set_by_who_saw_the_last_one(admin: admin_pb2_grpc.AdminStub, node: FakeAdministration) -> None:
    two = [admin_pb2.Neighbour(address="b:1", node_id=OTHER.bytes), admin_pb2.Neighbour(address="[::1]:2")]
    request = admin_pb2.SetTopologyRequest(neighbours=two, expected_generation=1)
    assert admin.SetTopology(request).generation == 2
    assert node.neighbours == (Neighbour("b:1", OTHER), Neighbour("[::1]:2"))
    code, message = refused(admin.SetTopology, request)
    assert code is grpc.StatusCode.ABORTED and "generation 2" in message
    assert admin.SetTopology(admin_pb2.SetTopologyRequest(expected_generation=2)).generation == 3
    assert node.neighbours == ()


@pytest.mark.parametrize(
    "neighbours",
    [
        [("b", b"")],
        [("unix:/x", b"")],
        [("b:1", b"short")],
        [("b:1", b""), ("b:1", b"")],
        [(f"b:{port + 1}", b"") for port in range(129)],
    ],
    ids=["no port", "another resolver", "no id", "twice", "too many"],
)
def test_a_topology_that_makes_no_sense_changes_nothing(
    admin: admin_pb2_grpc.AdminStub, node: FakeAdministration, neighbours: list[tuple[str, bytes]]
) -> None:
    named = [admin_pb2.Neighbour(address=address, node_id=raw) for address, raw in neighbours]
    code, _ = refused(admin.SetTopology, admin_pb2.SetTopologyRequest(neighbours=named, expected_generation=1))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and node.generation == 1


def test_bans_last_as_long_as_asked_and_are_lifted(
    admin: admin_pb2_grpc.AdminStub, node: FakeAdministration, told: list[str]
) -> None:
    assert admin.Ban(admin_pb2.BanRequest(node_id=OTHER.bytes, duration_ms=2500, reason="lies")).banned
    assert node.bans == {OTHER: (2.5, "lies")}
    assert admin.Ban(admin_pb2.BanRequest(node_id=OTHER.bytes)).banned and node.bans == {OTHER: (None, "")}
    admin.Ban(admin_pb2.BanRequest(node_id=OTHER.bytes, duration_ms=2**64 - 1))
    seconds = node.bans[OTHER][0]
    assert seconds is not None and seconds < 4e8
    assert not admin.Ban(admin_pb2.BanRequest(node_id=OTHER.bytes, lift=True)).banned and node.bans == {}
    assert [line.split(" ", 1)[1] for line in told[:1] + told[-1:]] == [
        f"banned node {OTHER}",
        f"lifted the ban of node {OTHER}",
    ]


@pytest.mark.parametrize(
    "request_",
    [
        admin_pb2.BanRequest(),
        admin_pb2.BanRequest(node_id=b"x" * 17),
        admin_pb2.BanRequest(node_id=ME.bytes),
        admin_pb2.BanRequest(node_id=OTHER.bytes, reason="x" * 257),
        admin_pb2.BanRequest(node_id=OTHER.bytes, reason="\x1b"),
    ],
    ids=["no id", "long id", "itself", "long reason", "control codes"],
)
def test_bans_that_make_no_sense(admin: admin_pb2_grpc.AdminStub, node: FakeAdministration, request_: object) -> None:
    code, _ = refused(admin.Ban, request_)
    assert code is grpc.StatusCode.INVALID_ARGUMENT and node.bans == {}


def test_the_state_is_told_as_it_is(admin: admin_pb2_grpc.AdminStub, node: FakeAdministration) -> None:
    node.neighbours = (Neighbour("b:1", OTHER), Neighbour("c:1"))
    node.sightings = tuple(Sighting(OTHER, 7, state, "b:1", 1.25) for state in PeerState)
    node.newest = (Standing("main", OTHER, 7, 4, 2),)
    node.ban(OTHER, None, "")
    got = admin.GetState(admin_pb2.GetStateRequest())
    assert got == admin_pb2.GetStateReply(
        node_id=ME.bytes,
        incarnation=3,
        topology_generation=1,
        neighbours=[
            admin_pb2.Neighbour(address="b:1", node_id=OTHER.bytes),
            admin_pb2.Neighbour(address="c:1"),
        ],
        sightings=[
            peer_pb2.Sighting(node_id=OTHER.bytes, incarnation=7, state=state, address="b:1", seen_ms_ago=1250)
            for state in (1, 2, 3, 4)
        ],
        newest=[objects_pb2.Newest(lineage="main", node_id=OTHER.bytes, incarnation=7, seq=4, epoch=2)],
        banned=[OTHER.bytes],
    )


def test_a_full_disk_is_worth_another_try(admin: admin_pb2_grpc.AdminStub, node: FakeAdministration) -> None:
    node.trouble = TransientError(TransientReason.DISK_FULL, "no space", hint="free some")
    with pytest.raises(grpc.RpcError) as error:
        admin.Ban(admin_pb2.BanRequest(node_id=OTHER.bytes))
    found = refusal_of(error.value)
    assert found is not None and (found.message, found.hint) == ("no space", "free some") and found.retry_after > 0
    assert admin.Ban(admin_pb2.BanRequest(node_id=OTHER.bytes)).banned
