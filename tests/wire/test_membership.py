"""Who is there: what a node itself says decides, what others say is a hint, and nothing grows."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.wire.membership import (
    FORGET_SECONDS,
    MOST_KNOWN,
    MOST_NEIGHBOURS,
    MOST_PER_WITNESS,
    Members,
)
from mergenode.wire.rhythm import Rhythm
from mergenode.wire.sightings import Contact, PeerState, Sighting, Standing

OWN, ONE, TWO, FAR = (UUID(int=number) for number in (1, 2, 3, 4))


def met(members: Members, node: UUID = ONE, incarnation: int = 1, now: float = 0.0, **more: object) -> Standing:
    return members.heard(Contact(node_id=node, incarnation=incarnation, **more), now).standing  # type: ignore[arg-type]  # any field


def state(members: Members, node: UUID, now: float) -> PeerState:
    return next(row.state for row in members.table(now) if row.node_id == node)


def sees(node: UUID, what: PeerState = PeerState.ALIVE, age: float = 0.0, incarnation: int = 1) -> Sighting:
    return Sighting(node, incarnation, what, "far:1", age)


def test_silence_makes_suspect_then_down_and_any_message_revives() -> None:
    members = Members(OWN)
    met(members)
    seen = [state(members, ONE, now) for now in (0, 17.9, 18, 29.9, 30, 3000)]
    assert seen == ["alive", "alive", "suspect", "suspect", "down", "down"]
    met(members, now=3001.0)
    assert state(members, ONE, 3001.0) is PeerState.ALIVE


def test_three_calls_without_answer_make_suspect_at_once() -> None:
    members = Members(OWN)
    met(members)
    for _ in range(2):
        members.missed(ONE)
    assert state(members, ONE, 1.0) is PeerState.ALIVE
    members.missed(ONE)
    assert state(members, ONE, 1.0) is PeerState.SUSPECT
    met(members, now=2.0)
    assert state(members, ONE, 2.0) is PeerState.ALIVE


def test_a_moving_transfer_is_life_for_fifteen_minutes() -> None:
    members = Members(OWN)
    met(members)
    for now in range(0, 2000, 5):
        members.missed(ONE)
        members.moved(ONE, float(now))
        expected = PeerState.ALIVE if now <= 900 else PeerState.DOWN if now >= 930 else None
        assert expected is None or state(members, ONE, float(now)) is expected, now


def test_the_newest_incarnation_wins_and_an_older_one_is_refused() -> None:
    members = Members(OWN)
    assert met(members, incarnation=2) is Standing.NEW
    assert met(members, incarnation=1, now=1.0) is Standing.OUTDATED
    assert met(members, incarnation=3, now=2.0) is Standing.RESTARTED
    assert met(members, incarnation=2, now=3.0) is Standing.OUTDATED
    assert members.table(3.0)[0].incarnation == 3


def test_a_caller_cannot_replace_a_node_that_answers_where_we_call_it() -> None:
    members = Members(OWN)
    met(members, dialled="one:1")
    assert met(members, incarnation=1 << 60, now=5.0) is Standing.UNCONFIRMED
    assert members.table(5.0)[0].incarnation == 1
    assert met(members, incarnation=2, now=40.0) is Standing.RESTARTED  # it had not answered for half a minute


def test_one_start_of_a_node_at_two_addresses_is_noticed() -> None:
    members = Members(OWN)
    for how in ("dialled", "advertised"):
        for address, now, rival in (("a:1", 0.0, ""), ("b:1", 5.0, "a:1"), ("b:1", 40.0, "")):
            contact = Contact(node_id=ONE, incarnation=1, **{how: address})  # type: ignore[arg-type]  # a field name
            assert members.heard(contact, now).rival == rival
    restarted = Contact(node_id=ONE, incarnation=2, advertised="c:1")
    assert members.heard(restarted, 41.0).rival == "", "a restart may move"


def test_an_address_belongs_to_whoever_answers_there_now() -> None:
    members = Members(OWN)
    met(members, ONE, dialled="a:1")
    met(members, TWO, dialled="a:1", now=1.0)
    assert members.neighbours(1.0) == {TWO: True}


def test_nobody_declares_a_neighbour_of_ours_dead_or_alive() -> None:
    members = Members(OWN)
    met(members, ONE)
    met(members, TWO)
    members.merge(TWO, [sees(ONE, PeerState.DOWN, incarnation=9)], 1.0)
    assert state(members, ONE, 1.0) is PeerState.ALIVE and members.table(1.0)[0].incarnation == 1
    met(members, TWO, now=40.0)
    members.merge(TWO, [sees(ONE)], 40.0)
    assert state(members, ONE, 40.0) is PeerState.DOWN


def test_draining_is_what_a_node_says_of_itself() -> None:
    members = Members(OWN)
    met(members, ONE)
    met(members, TWO)
    members.merge(TWO, [sees(ONE, PeerState.DRAINING)], 0.0)
    assert state(members, ONE, 0.0) is PeerState.ALIVE
    members.merge(ONE, [sees(ONE, PeerState.DRAINING)], 0.0)
    assert state(members, ONE, 0.0) is PeerState.DRAINING
    assert met(members, ONE, incarnation=2, now=1.0) and state(members, ONE, 1.0) is PeerState.ALIVE


def test_hearsay_is_told_with_its_age_and_fades() -> None:
    members = Members(OWN)
    met(members, ONE)
    members.merge(ONE, [sees(FAR, age=100.0)], 0.0)
    assert (state(members, FAR, 199.0), state(members, FAR, 201.0)) == ("alive", "down")
    told = {each.node_id: each.age for each in members.sightings(50.0)}
    assert told == {ONE: 50.0, FAR: 150.0}


def test_who_is_listened_to() -> None:
    members = Members(OWN)
    assert members.listened() == frozenset()
    members.merge(ONE, [sees(FAR)], 0.0)
    assert members.listened() == frozenset(), "from a stranger nothing is taken"
    met(members, ONE)
    members.merge(ONE, [sees(FAR), sees(OWN)], 0.0)
    assert members.listened() == {ONE, FAR}
    assert members.listened({ONE}) == frozenset(), "nobody through the banned"
    met(members, TWO)
    members.merge(TWO, [sees(FAR)], 0.0)
    assert members.listened({ONE}) == {TWO, FAR}
    assert members.pin(UUID(int=9)) and UUID(int=9) in members.listened()


def test_what_is_old_is_forgotten_and_what_is_called_or_pinned_is_not() -> None:
    members = Members(OWN)
    met(members, ONE, dialled="a:1")
    met(members, TWO)
    members.merge(TWO, [sees(FAR)], 0.0)
    members.pin(UUID(int=9))
    members.tick(FORGET_SECONDS)
    assert {row.node_id for row in members.table(FORGET_SECONDS)} == {ONE, UUID(int=9)}
    assert met(members, TWO, incarnation=0, now=FORGET_SECONDS) is Standing.NEW, "it may come back with less"


def test_hanging_up_ends_a_neighbour_that_never_called() -> None:
    members = Members(OWN)
    met(members, ONE, dialled="a:1")
    met(members, TWO, dialled="b:1")
    met(members, TWO, advertised="b:1")
    members.hung_up("a:1")
    members.hung_up("b:1")
    assert members.neighbours(0.0) == {}
    assert [row.node_id for row in members.table(0.0) if row.direct] == [TWO]


def test_who_was_taken_away_is_nobodys_loss_and_an_earlier_start_of_it_is_still_refused() -> None:
    members = Members(OWN)
    for who, address in ((ONE, "a:1"), (TWO, "b:1")):
        met(members, who, incarnation=2, dialled=address)
        met(members, who, incarnation=2, advertised=f"{address}1")
    members.hung_up("a:1", gone=True)
    members.hung_up("b:1")
    assert [row.direct for row in members.table(17.0)] == [True, True], "it still spoke"
    for now in (18.0, 30.0, FORGET_SECONDS - 1):
        members.tick(now)
        assert {row.node_id: row.direct for row in members.table(now)} == {ONE: False, TWO: True}
    assert met(members, ONE, incarnation=1, now=FORGET_SECONDS - 1) is Standing.OUTDATED
    assert met(members, ONE, incarnation=2, now=FORGET_SECONDS - 1) is Standing.SAME
    assert [row.direct for row in members.table(FORGET_SECONDS + 100)] == [True, True], "it came back and fell silent"


def test_where_nodes_answer_and_where_they_ask_to_be_called() -> None:
    members = Members(OWN)
    met(members, ONE, dialled="a:1")
    met(members, ONE, dialled="c:1", now=40.0)
    met(members, TWO, advertised="b:1")
    assert members.answering({"c:1", "b:1"}) == {ONE: "c:1"} and members.answering({}) == {}
    assert members.asks_for(TWO, "b:1") and not members.asks_for(ONE, "a:1") and not members.asks_for(FAR, "b:1")


def test_our_own_absence_is_nobodys_silence() -> None:
    members = Members(OWN)
    met(members, ONE, dialled="a:1")
    for now in range(0, 11):
        members.tick(float(now))
    members.tick(5000.0)
    assert state(members, ONE, 5000.0) is PeerState.ALIVE
    members.tick(5005.0)
    assert state(members, ONE, 5025.0) is PeerState.DOWN, "from then on silence counts"
    members.tick(5014.0)
    members.tick(5023.0)
    members.tick(5032.0)
    members.tick(9000.0)
    assert state(members, ONE, 9000.0) is PeerState.DOWN, "who was down stays down"


def test_a_full_house_lets_in_whom_the_operator_chose() -> None:
    members = Members(OWN)
    for number in range(MOST_NEIGHBOURS):
        assert met(members, UUID(int=100 + number)) is Standing.NEW
    assert met(members, ONE) is Standing.FULL
    assert met(members, ONE, dialled="a:1") is Standing.NEW
    assert met(members, TWO, now=31.0) is Standing.NEW, "in the place of one that is down"
    assert sum(row.direct for row in members.table(31.0)) == MOST_NEIGHBOURS


def test_one_liar_does_not_fill_the_table() -> None:
    members = Members(OWN)
    met(members, ONE)
    met(members, TWO)
    members.merge(ONE, [sees(UUID(int=1000 + number)) for number in range(5000)], 0.0)
    assert len(members.table(0.0)) == 2 + MOST_PER_WITNESS
    members.merge(TWO, [sees(FAR)], 0.0)
    assert FAR in members.listened()


nodes = st.integers(1, 40).map(lambda number: UUID(int=number))
states = st.sampled_from(PeerState)
addresses = st.sampled_from(["", "a:1", "b:1"])
sightings = st.builds(Sighting, nodes, st.integers(0, 3), states, addresses, st.floats(0, 1e9))
views = st.lists(sightings, max_size=12)


def hearsay(members: Members) -> list[object]:
    return [*members.table(10.0), sorted(members.listened()), sorted(members.listened({TWO}))]


@settings(deadline=None, max_examples=60)
@given(views, views)
def test_merging_is_commutative_and_idempotent(first: list[Sighting], second: list[Sighting]) -> None:
    """What a node says of itself is the newest word, so it is left out: that is an order in time."""
    results = []
    for order in ([(ONE, first), (TWO, second)], [(TWO, second), (ONE, first)], [(ONE, first), (TWO, second)] * 2):
        members = Members(OWN)
        met(members, ONE)
        met(members, TWO)
        for witness, view in order:
            members.merge(witness, [each for each in view if each.node_id != witness], 10.0)
            members.merge(witness, [each for each in reversed(view) if each.node_id != witness], 10.0)
        results.append(hearsay(members))
    assert results[0] == results[1] == results[2]


step = st.one_of(
    st.tuples(st.just("heard"), st.integers(1, 3000), st.integers(0, 3), st.sampled_from(["", "a:1", "b:2", "c:3"])),
    st.tuples(st.just("merge"), st.integers(1, 3000), st.integers(0, 1 << 40), st.integers(1, 900)),
    st.tuples(st.just("pin"), st.integers(1, 3000)),
    st.tuples(st.just("time"), st.floats(0, 4000)),
)


@settings(deadline=None, max_examples=40)
@given(st.lists(step, min_size=5, max_size=40), st.booleans())
def test_nothing_grows_past_its_bounds(steps: list[tuple[object, ...]], crowded: bool) -> None:
    members, now = Members(OWN), 0.0
    if crowded:
        for number in range(MOST_NEIGHBOURS):
            met(members, UUID(int=10_000 + number))
            many = [sees(UUID(int=20_000 + 300 * number + each)) for each in range(300)]
            members.merge(UUID(int=10_000 + number), many, 0.0)
        assert len(members.table(0.0)) == MOST_KNOWN
    for what, *more in steps:
        number = int(more[0]) + 1  # type: ignore[call-overload]  # numbers
        if what == "heard":
            met(members, UUID(int=number), more[1], now, dialled=more[2], advertised=more[2])  # type: ignore[arg-type]  # as drawn
        elif what == "merge":
            members.merge(UUID(int=number), [sees(UUID(int=more[1] + each + 2)) for each in range(more[2])], now)  # type: ignore[operator,call-overload]  # numbers
        elif what == "pin":
            members.pin(UUID(int=number))
        else:
            now += more[0]  # type: ignore[operator]  # seconds
            members.tick(now)
        table = members.table(now)
        assert len(table) <= MOST_KNOWN and sum(row.direct for row in table) <= MOST_NEIGHBOURS
        assert all(len(each.witnesses) <= MOST_NEIGHBOURS for each in members._known.values())


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 12), st.sampled_from([-3600.0, 0.0, 3600.0])), min_size=1, max_size=20))
def test_clocks_that_jump_change_no_state(steps: list[tuple[float, float]]) -> None:
    jumping, steady, now = Members(OWN), Members(OWN), 0.0
    for seconds, skew in steps:
        now += seconds
        met(jumping, now=now, skew=skew)
        met(steady, now=now, skew=0.0)
        assert [row.skew for row in jumping.table(now)] == [skew]
        for later in (now, now + 20, now + 31):
            assert state(jumping, ONE, later) is state(steady, ONE, later)


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999999])
def test_pauses_keep_their_pace_until_a_node_can_be_down_then_double(draw: float) -> None:
    rhythm = Rhythm()
    pauses = [rhythm.pause(failures, draw) / (0.8 + 0.4 * draw) for failures in (0, 1, 6, 7, 8, 11, 12, 10**9)]
    assert pauses == pytest.approx([5, 5, 5, 10, 20, 160, 300, 300])
    assert rhythm.pause(10**9, draw) <= rhythm.longest()
