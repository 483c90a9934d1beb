"""One object that mixers, transfers and operators ask."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from mergenode.adapters.peers.membership.document import peers_document
from mergenode.adapters.peers.membership.membership import Membership, Place
from mergenode.adapters.peers.membership.operating import PeersOperator
from mergenode.adapters.peers.membership.snapshot import take_snapshot
from mergenode.ports.administration import Administration, Neighbour, TopologyChangedError
from mergenode.ports.administration import PeerState as AdminState
from mergenode.wire.admission import Admitted, HeadFault, Refused
from mergenode.wire.sightings import Contact, PeerState, Sighting
from mergenode.wire.views import Position, View
from tests.support.clock import FakeClock
from tests.support.peer_nodes import BASE, LINEAGE, SCHEMA, draft, identity, keyed

OWN, ONE, TWO, FAR = (identity(number) for number in (1, 2, 3, 4))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def opened(folder: Path, clock: FakeClock, incarnation: int = 1, neighbours: tuple[str, ...] = ()) -> Membership:
    place = Place(lineage=LINEAGE, address="own:1", neighbours=neighbours)
    membership = Membership(identity(1, incarnation), folder, clock, place)
    membership.heads.expect(SCHEMA, BASE)
    return membership


@pytest.fixture
def membership(tmp_path: Path, clock: FakeClock) -> Membership:
    made = opened(tmp_path / "peers", clock)
    made.met(Contact(node_id=ONE.node_id, incarnation=1, dialled="one:1", round_trip=0.25, skew=3600.0))
    made.met(Contact(node_id=TWO.node_id, incarnation=1, advertised="two:1"))
    return made


def refused(membership: Membership, head: object, sender: UUID) -> HeadFault:
    verdict = membership.admit(head, sender)  # type: ignore[arg-type]  # as given
    assert isinstance(verdict, Refused)
    return verdict.fault


def test_heads_are_admitted_whoever_relays_them_once_their_node_is_seen(membership: Membership) -> None:
    assert refused(membership, keyed(FAR), ONE.node_id) is HeadFault.UNKNOWN_NODE
    seen = Sighting(FAR.node_id, 1, PeerState.ALIVE, "far:1", 1.0)
    membership.received(View(TWO.node_id, 1, (seen,), (), 0.0))
    assert isinstance(membership.admit(keyed(FAR), ONE.node_id), Admitted)
    assert set(membership.newest()) == {FAR.node_id}
    assert membership.neighbours() == {ONE.node_id: True}


def test_what_is_wanted_is_what_is_newer_listened_to_and_of_this_lineage(membership: Membership) -> None:
    membership.admit(keyed(ONE, 2, 5), ONE.node_id)
    asked = [Position(LINEAGE, ONE.node_id, *position, 1) for position in ((2, 5), (2, 6), (1, 9), (3, 1))]
    assert [bool(membership.wanted([each])) for each in asked] == [False, True, False, True]
    assert membership.wanted([Position("others", TWO.node_id, 1, 1, 1)]) == []
    assert membership.wanted([Position(LINEAGE, FAR.node_id, 1, 1, 1)]) == [], "nobody knows that node"
    refused(membership, keyed(TWO, schema_hash=b"x" * 32), TWO.node_id)
    foreign = Position(LINEAGE, TWO.node_id, 1, 1, 1)
    assert membership.wanted([foreign]) == [], "it was here and is of another model"
    membership.heads.expect(SCHEMA, BASE, min_epoch=1)
    assert membership.wanted([foreign]) and not membership.wanted([Position(LINEAGE, TWO.node_id, 9, 1, 0)])
    both = [Position(LINEAGE, each.node_id, 9, 1, 1) for each in (TWO, ONE, TWO)]
    assert membership.wanted(both) == sorted([ONE.node_id, TWO.node_id], key=lambda each: each.bytes)


def test_a_relay_is_blamed_for_what_nobody_signed_and_a_signer_for_contradictions(membership: Membership) -> None:
    for number in range(3):
        contradiction = keyed(TWO, root=bytes([number]) * 32)
        membership.admit(contradiction, ONE.node_id)
        membership.admit(contradiction, ONE.node_id)
    assert not membership.bans.banned(), "the first was admitted, two contradict it, and none counts twice"
    refused(membership, keyed(TWO, root=b"z" * 32), ONE.node_id)
    assert set(membership.bans.banned()) == {TWO.node_id} and TWO.node_id not in membership.newest()
    assert refused(membership, keyed(TWO, seq=9), ONE.node_id) is HeadFault.UNKNOWN_NODE
    row = next(row for row in take_snapshot(membership).peers if row.peer.node_id == TWO.node_id)
    assert row.refusals == {"conflicting": 3, "unknown_node": 1} and row.ban is not None


def test_old_heads_foreign_heads_and_unknown_nodes_are_nobodys_lie(membership: Membership) -> None:
    membership.admit(keyed(ONE, seq=9), ONE.node_id)
    for number in range(1, 9):
        assert refused(membership, keyed(ONE, seq=number), TWO.node_id) is HeadFault.REPLAYED
        assert refused(membership, keyed(TWO, seq=number, lineage="others"), TWO.node_id) is HeadFault.LINEAGE
        assert refused(membership, keyed(identity(40 + number)), TWO.node_id) is HeadFault.UNKNOWN_NODE
    assert not membership.bans.banned()


def test_accusations_of_a_mixer_ban(membership: Membership, clock: FakeClock) -> None:
    pokes: list[int] = []
    membership.admit(keyed(ONE), ONE.node_id)
    membership.listen(lambda: pokes.append(1))
    for _ in range(3):
        membership.accuse(ONE.node_id, "norm_too_large", "twelve times the median")
    assert membership.neighbours() == {ONE.node_id: False} and membership.newest() == {} and pokes
    assert ONE.node_id not in membership.addresses()
    assert membership.tally.refusals()["accused"] == 3
    clock.advance(900)
    assert membership.newest()
    for _ in range(5):
        membership.accuse(OWN.node_id, "norm_too_large", "by mistake")
    assert not membership.bans.banned()


def test_nodes_with_heads_are_still_listened_to_after_a_restart(tmp_path: Path, clock: FakeClock) -> None:
    first = opened(tmp_path, clock)
    first.met(Contact(node_id=ONE.node_id, incarnation=1))
    first.admit(keyed(ONE), ONE.node_id)
    again = opened(tmp_path, clock, 2)
    assert set(again.newest()) == {ONE.node_id} and again.neighbours() == {}
    assert isinstance(again.admit(keyed(ONE, seq=2), TWO.node_id), Admitted)
    told = [each for each in again.sightings() if each.node_id == ONE.node_id]
    assert told and told[0].state is PeerState.UNKNOWN, "others learn of it from us"


def test_states_change_with_time_and_are_told(membership: Membership, clock: FakeClock) -> None:
    pokes: list[int] = []
    membership.listen(lambda: pokes.append(1))
    seen = []
    for _ in range(8):
        membership.tick()
        seen.append(membership.neighbours()[ONE.node_id])
        clock.advance(5)
    assert seen == [True] * 6 + [False] * 2 and 3 <= len(pokes) <= 4
    membership.moved(ONE.node_id)
    assert membership.neighbours() == {ONE.node_id: True}
    clock.jump(3600)
    assert membership.neighbours() == {ONE.node_id: True}, "a wall clock that is set changes nothing"


def test_the_document_says_how_far_everybody_is(membership: Membership) -> None:
    told = Position(LINEAGE, ONE.node_id, 1, 7, 3)
    membership.admit(keyed(ONE, seq=5, epoch=2), ONE.node_id)
    membership.received(View(ONE.node_id, 1, (), (told, Position(LINEAGE, TWO.node_id, 1, 99, 3)), 0.0))
    membership.publish(draft(epoch=6))
    membership.report(ONE.node_id, "distance", 0.125)
    membership.attempted("two:1", "unavailable: refused")
    document = peers_document(take_snapshot(membership))
    one = next(peer for peer in document["peers"] if peer["node_id"] == str(ONE.node_id))  # type: ignore[attr-defined,index]  # a list
    assert one["state"] == "alive" and one["neighbour"] and one["direct"] and one["address"] == "one:1"
    assert (one["heads_behind"], one["epochs_behind"], one["distance"]) == (2, 4, 0.125)
    assert (one["round_trip_seconds"], one["clock_skew_seconds"], one["banned"]) == (0.25, 3600.0, None)
    assert document["calls"] == [{"address": "two:1", "error": "unavailable: refused"}]
    two = next(peer for peer in document["peers"] if peer["node_id"] == str(TWO.node_id))  # type: ignore[attr-defined,index]  # a list
    assert two["heads_behind"] is None, "only a node itself says how far it is"


def test_reports_are_bounded(membership: Membership) -> None:
    for number in range(100):
        membership.report(ONE.node_id, f"name {number}", 1.0)
        membership.report(UUID(int=number), "distance", 1.0)
    membership.report(ONE.node_id, "name 0", 2.0)
    reports = membership.picture().reports
    assert len(reports) <= 3 and len(reports[ONE.node_id]) == 16 and reports[ONE.node_id]["name 0"] == 2.0


def test_operators_see_and_change_everything(membership: Membership) -> None:
    operator: Administration = PeersOperator(membership, lambda grace: 2)
    membership.publish(draft())
    membership.admit(keyed(TWO), TWO.node_id)
    membership._members.pin(FAR.node_id)
    operator.ban(ONE.node_id, 60.0, "by hand")
    state = operator.state()
    assert (state.node_id, state.incarnation, state.topology_generation) == (OWN.node_id, 1, 0)
    assert {each.node_id: each.state for each in state.sightings} == {
        TWO.node_id: AdminState.ALIVE,
        FAR.node_id: AdminState.DOWN,
    }
    assert {each.node_id for each in state.newest} == {OWN.node_id, TWO.node_id}
    assert state.banned == (ONE.node_id,) and not state.draining
    operator.lift_ban(ONE.node_id)
    assert operator.drain(1.0) == 2 and operator.state().draining and operator.state().banned == ()
    with pytest.raises(ValueError, match="this node itself"):
        operator.ban(OWN.node_id, None, "by mistake")


def test_a_topology_lasts_until_the_settings_change(tmp_path: Path, clock: FakeClock) -> None:
    first = opened(tmp_path, clock, 1, ("a:1", "dns:b:1"))
    operator = PeersOperator(first)
    assert [each.address for each in operator.state().neighbours] == ["a:1", "dns:b:1"]
    chosen = [Neighbour("c:1"), Neighbour("d:1", ONE.node_id)]
    assert operator.set_topology(chosen, 0) == 1
    for wrong in ([Neighbour("dns:b:1:")], [Neighbour(f"a{n}:1") for n in range(65)]):
        with pytest.raises(ValueError, match=r"neighbours|no address"):
            operator.set_topology(wrong, 1)
    with pytest.raises(TopologyChangedError):
        operator.set_topology([], 0)
    again = opened(tmp_path, clock, 2, ("a:1", "dns:b:1"))
    assert (again.topology.generation, list(again.topology.neighbours)) == (1, chosen)
    other = opened(tmp_path, clock, 3, ("a:1",))
    assert (other.topology.generation, other.topology.neighbours) == (0, (Neighbour("a:1"),))
    (tmp_path / "topology.json").write_text('{"configured": ["a:1"], "neighbours": 3}')
    assert opened(tmp_path, clock, 4, ("a:1",)).topology.generation == 0


def test_a_copy_of_this_node_is_reported(tmp_path: Path, clock: FakeClock) -> None:
    said: list[str] = []
    place = Place(lineage=LINEAGE)
    membership = Membership(OWN, tmp_path, clock, place, lambda level, text: said.append(text))
    membership.met(Contact(node_id=ONE.node_id, incarnation=1))
    membership.received(View(ONE.node_id, 1, (Sighting(OWN.node_id, 9, PeerState.ALIVE, "x:1", 0.0),), (), 0.0))
    assert "a later start of this very node" in said[-1]
    membership.met(Contact(node_id=TWO.node_id, incarnation=1, advertised="a:1"))
    membership.met(Contact(node_id=TWO.node_id, incarnation=1, advertised="b:1"))
    assert "is at a:1 and at b:1" in said[-1]
