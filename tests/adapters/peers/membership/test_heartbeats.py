"""Nodes that really call each other: heads travel, restarts and lies are noticed, nobody delays anybody."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from mergenode.adapters.peers.membership import link
from mergenode.adapters.peers.membership.operating import PeersOperator
from mergenode.adapters.peers.membership.snapshot import take_snapshot
from mergenode.ports.administration import Neighbour
from mergenode.wire.heads import Head
from mergenode.wire.rhythm import Rhythm
from mergenode.wire.sightings import PeerState
from mergenode.wire.v1 import objects_pb2, peer_pb2
from tests.support.peer_nodes import (
    BASE,
    PATIENCE,
    SCHEMA,
    PeerNode,
    channel,
    draft,
    identity,
    keyed,
    start_node,
    stopping,
)

A, B, C = (identity(number) for number in (1, 2, 3))


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def states(node: PeerNode) -> dict[object, PeerState]:
    return {row.node_id: row.state for row in node.membership.picture().table if row.direct}


def up(node: PeerNode, *others: PeerNode) -> bool:
    return all(node.membership.neighbours().get(other.node_id) for other in others)


def heads(node: PeerNode) -> dict[object, Head]:
    return dict(node.membership.newest())


def test_a_head_reaches_the_end_of_a_chain_with_its_own_signature(tmp_path: Path) -> None:
    async def story() -> None:
        nodes: list[PeerNode] = []
        async with stopping(nodes):
            nodes.append(b := await start_node(tmp_path / "b", B))
            nodes.append(a := await start_node(tmp_path / "a", A, [b.address]))
            nodes.append(c := await start_node(tmp_path / "c", C, [b.address]))
            await b.until(lambda: up(b, a, c))
            head = a.membership.publish(draft())
            await c.until(lambda: heads(c).get(a.node_id) == head)
            assert c.membership.heads.held[a.node_id].keyed == a.membership.heads.held[a.node_id].keyed
            assert set(c.membership.neighbours()) == {b.node_id}, "who is only relayed is no neighbour"
            second = a.membership.publish(draft(epoch=2))
            assert second.position == (1, 2)
            await c.until(lambda: heads(c)[a.node_id] == second)
            # The relay goes; what was heard stays, and a newcomer behind nobody who knows A hears nothing wrong.
            assert take_snapshot(c.membership).refusals["signature"] == 0

    run(story())


def test_a_restart_is_seen_by_its_incarnation_and_its_old_heads_stay(tmp_path: Path) -> None:
    async def story() -> None:
        nodes: list[PeerNode] = []
        async with stopping(nodes):
            nodes.append(a := await start_node(tmp_path / "a", A))
            nodes.append(b := await start_node(tmp_path / "b", B, [a.address]))
            old = a.membership.publish(draft(epoch=5))
            await b.until(lambda: heads(b).get(a.node_id) == old)
            await a.stop()
            await b.until(lambda: states(b)[a.node_id] is PeerState.DOWN)
            assert heads(b)[a.node_id] == old and b.membership.neighbours() == {a.node_id: False}
            port = int(a.address.rpartition(":")[2])
            nodes.append(again := await start_node(tmp_path / "a", identity(1, incarnation=2), port=port))
            await b.until(lambda: up(b, again))
            assert [row.incarnation for row in b.membership.picture().table] == [2]
            new = again.membership.publish(draft(epoch=6))
            assert new.position == (2, 1)
            await b.until(lambda: heads(b)[a.node_id] == new)

    run(story())


def test_one_of_two_names_the_other_and_both_call(tmp_path: Path) -> None:
    async def story() -> None:
        nodes: list[PeerNode] = []
        async with stopping(nodes):
            nodes.append(a := await start_node(tmp_path / "a", A))
            nodes.append(b := await start_node(tmp_path / "b", B, [a.address]))
            await a.until(lambda: up(a, b))
            await b.until(lambda: up(b, a))
            operator = PeersOperator(a.membership)
            assert operator.set_topology([], 0) == 1
            await a.until(lambda: not a.membership.neighbours())  # by hand: who calls is not called back
            operator.set_topology([Neighbour(b.address, A.node_id)], 1)
            await a.until(lambda: "answers where" in a.membership.picture().links.get(b.address, ""))
            operator.set_topology([Neighbour(b.address, B.node_id)], 2)
            await a.until(lambda: up(a, b))

    run(story())


def test_a_node_does_not_meet_itself_nor_one_twice(tmp_path: Path) -> None:
    async def story() -> None:
        nodes: list[PeerNode] = []
        async with stopping(nodes):
            nodes.append(a := await start_node(tmp_path / "a", A))
            port = a.address.rpartition(":")[2]
            names = [a.address, f"localhost:{port}"]
            nodes.append(b := await start_node(tmp_path / "b", B, names))
            await b.until(lambda: up(b, a))
            await b.until(lambda: "the same node is called at" in "".join(b.membership.picture().links.values()))
            assert PeersOperator(a.membership).set_topology([Neighbour(a.address)], 0) == 1
            await a.until(lambda: a.membership.picture().links.get(a.address) == "this node itself")
            assert a.node_id not in {row.node_id for row in a.membership.picture().table}

    run(story())


def test_names_are_asked_again_and_their_answers_followed(tmp_path: Path) -> None:
    async def story() -> None:
        nodes: list[PeerNode] = []
        async with stopping(nodes):
            nodes.append(a := await start_node(tmp_path / "a", A))
            nodes.append(c := await start_node(tmp_path / "c", C))
            answer: list[str] = [a.address]
            asked: list[tuple[str, int]] = []

            async def resolve(host: str, port: int) -> list[str]:
                asked.append((host, port))
                if not answer:
                    raise OSError("no such name")
                return list(answer)

            nodes.append(b := await start_node(tmp_path / "b", B, ["dns:headless:50051"], resolve=resolve))
            await b.until(lambda: up(b, a))
            answer[:] = []
            await b.until(lambda: any("headless" in text for _, text in b.said))
            await b.until(lambda: up(b, a))  # a name server that is away changes nothing
            answer[:] = [c.address]
            await b.until(lambda: up(b, c) and a.node_id not in b.membership.neighbours())
            assert set(asked) == {("headless", 50051)}

    run(story())


async def never(*args: object) -> Any:
    await asyncio.Event().wait()


def test_frozen_half_open_and_absent_neighbours_delay_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        frozen = socket.create_server(("127.0.0.1", 0))  # the kernel takes connections, nobody ever reads them
        dead = [f"127.0.0.1:{frozen.getsockname()[1]}", "127.0.0.1:1"]
        nodes: list[PeerNode] = []
        with frozen:
            await beside(nodes, dead)

    async def beside(nodes: list[PeerNode], dead: list[str]) -> None:
        async with stopping(nodes):
            nodes.append(a := await start_node(tmp_path / "a", A))
            nodes.append(b := await start_node(tmp_path / "b", B, [*dead, a.address]))
            # Its own calls never end within this test, their deadline is 20 seconds.
            for epoch in range(1, 20):
                head = a.membership.publish(draft(epoch=epoch))
                await b.until(lambda head=head: heads(b).get(a.node_id) == head)
            await b.until(lambda: up(b, a))
            await b.until(lambda: b.membership.picture().links.get("127.0.0.1:1", "").startswith("unavailable"))

    run(story())


def test_a_neighbour_that_freezes_is_down_in_time(tmp_path: Path) -> None:
    async def story() -> None:
        quick = Rhythm(exchange=0.05, deadline=0.3, down=0.6, back_off=0.2)
        nodes: list[PeerNode] = []
        async with stopping(nodes):
            nodes.append(a := await start_node(tmp_path / "a", A, calls=False))
            nodes.append(b := await start_node(tmp_path / "b", B, [a.address], rhythm=quick))
            await b.until(lambda: up(b, a))
            a.service._answer = never  # type: ignore[method-assign]  # frozen
            await b.until(lambda: states(b)[a.node_id] is PeerState.DOWN)
            del a.service._answer
            await b.until(lambda: up(b, a))

    run(story())


class Liar:
    """Answers like a node, and hands out heads that it made up."""

    def __init__(self, node: PeerNode) -> None:
        self.node, self.heads = node, list[objects_pb2.SignedHead]()
        node.membership.heads.page = self._page  # type: ignore[method-assign,assignment]  # it lies

    def _page(self, after: bytes, min_epoch: int, budget: int) -> tuple[list[Any], bool]:
        class Lie:
            def __init__(self, message: objects_pb2.SignedHead) -> None:
                self.keyed = self
                self.message = lambda: message

        return [Lie(message) for message in self.heads], False

    def claims(self) -> None:
        """Say that there is something newer of node C, so that others ask for it."""
        real = self.node.membership.view

        def view() -> peer_pb2.View:
            message = real()
            entry = objects_pb2.Newest(lineage="words", node_id=C.node_id.bytes, incarnation=9, seq=9, epoch=9)
            message.newest.append(entry)
            message.sightings.append(peer_pb2.Sighting(node_id=C.node_id.bytes, incarnation=9))
            return message

        self.node.membership.view = view  # type: ignore[method-assign]  # it lies


def forged(number: int) -> objects_pb2.SignedHead:
    good = keyed(C, seq=number).message()
    good.signature = bytes([number]) * 64
    return good


def garbage(number: int) -> objects_pb2.SignedHead:
    return objects_pb2.SignedHead(head=bytes([number]) * 99, signature=b"x" * 64, key=b"k" * 32)


@pytest.mark.parametrize(
    ("lies", "code"),
    [
        ([forged(1), forged(2), forged(3)], "signature"),
        ([garbage(1), garbage(2), garbage(3)], "malformed"),
    ],
    ids=["signature", "malformed"],
)
def test_a_liar_is_banned_and_stays_banned_after_a_restart(
    tmp_path: Path, lies: list[objects_pb2.SignedHead], code: str
) -> None:
    async def story() -> None:
        nodes: list[PeerNode] = []
        async with stopping(nodes):
            nodes.append(a := await start_node(tmp_path / "a", A, calls=False))
            liar = Liar(a)
            liar.claims()
            nodes.append(b := await start_node(tmp_path / "b", B, [a.address]))
            for lie in lies:
                liar.heads = [lie]
                refused = take_snapshot(b.membership).refusals[code]
                await b.until(lambda refused=refused: take_snapshot(b.membership).refusals[code] > refused)
            await b.until(lambda: a.node_id in b.membership.bans.banned())
            await b.until(lambda: b.membership.picture().links[a.address] == "it is banned")
            row = next(row for row in take_snapshot(b.membership).peers if row.peer.node_id == a.node_id)
            assert row.ban is not None and row.ban.reason.startswith(code) and row.refusals[code] == 3
            assert not up(b, a) and any("is banned for 15 minutes" in text for _, text in b.said)
            await b.stop()
            nodes.append(again := await start_node(tmp_path / "b", identity(2, incarnation=2), [a.address]))
            await again.until(lambda: again.membership.picture().links.get(a.address) == "it is banned")
            assert not again.membership.neighbours()
            liar.heads = [keyed(C).message()]
            PeersOperator(again.membership).lift_ban(a.node_id)
            await again.until(lambda: up(again, a) and C.node_id in heads(again))

    run(story())


def test_replayed_and_conflicting_heads_are_refused_with_their_codes(tmp_path: Path) -> None:
    async def story() -> None:
        nodes: list[PeerNode] = []
        async with stopping(nodes):
            nodes.append(a := await start_node(tmp_path / "a", A, calls=False))
            liar = Liar(a)
            liar.claims()
            liar.heads = [keyed(C, seq=5).message()]
            nodes.append(b := await start_node(tmp_path / "b", B, [a.address]))
            await b.until(lambda: heads(b).get(C.node_id))
            lies = (("replayed", keyed(C, seq=4)), ("conflicting", keyed(C, seq=5, root=b"q" * 32)))
            for code, lie in lies:
                liar.heads = [lie.message()]
                await b.until(lambda code=code: take_snapshot(b.membership).refusals[code])
            assert b.membership.heads.held[C.node_id].keyed == keyed(C, seq=5)
            assert len(list((tmp_path / "b" / "proofs").iterdir())) == 1
            await b.until(lambda: up(b, a))

    run(story())


def test_heads_without_end_are_stopped_and_the_neighbour_stays(tmp_path: Path) -> None:
    async def story() -> None:
        nodes: list[PeerNode] = []
        async with stopping(nodes):
            nodes.append(a := await start_node(tmp_path / "a", A, calls=False))

            async def flood(request: object, context: Any, caller: str) -> None:
                while True:
                    await context.write(keyed(A).message())

            a.service._watch = flood  # type: ignore[method-assign]  # it floods
            nodes.append(c := await start_node(tmp_path / "c", C))
            nodes.append(b := await start_node(tmp_path / "b", B, [a.address, c.address]))
            await b.until(lambda: any("heads without end" in text for _, text in b.said))
            head = c.membership.publish(draft())
            await b.until(lambda: heads(b).get(c.node_id) == head)
            await b.until(lambda: up(b, a, c))

    run(story())


def test_channels_are_made_anew_so_that_certificates_can_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "SESSION_SECONDS", 0.2)

    async def story() -> None:
        nodes: list[PeerNode] = []
        made: list[grpc.aio.Channel] = []
        async with stopping(nodes):
            nodes.append(a := await start_node(tmp_path / "a", A, calls=False))
            enough = asyncio.Event()

            def channel_of(address: str, name: str) -> grpc.aio.Channel:
                made.append(channel(address))
                if len(made) == 4:
                    enough.set()
                return made[-1]

            nodes.append(b := await start_node(tmp_path / "b", B, [a.address], channel_of=channel_of))
            async with asyncio.timeout(PATIENCE):
                await enough.wait()
            await b.until(lambda: up(b, a))
            assert not b.membership.picture().links[a.address], "no call failed"

    run(story())


def test_a_page_that_never_ends_costs_only_its_sender(tmp_path: Path) -> None:
    async def story() -> None:
        nodes: list[PeerNode] = []
        async with stopping(nodes):
            nodes.append(a := await start_node(tmp_path / "a", A, calls=False))
            nodes.append(c := await start_node(tmp_path / "c", identity(9)))
            liar = Liar(a)
            liar.claims()
            liar.heads = [keyed(C).message(), keyed(C).message()]
            nodes.append(b := await start_node(tmp_path / "b", B, [a.address, c.address]))
            await b.until(lambda: "do not ascend" in b.membership.picture().links.get(a.address, ""))
            head = c.membership.publish(draft())
            await b.until(lambda: heads(b).get(c.node_id) == head)
            await b.until(lambda: up(b, c))

    run(story())


def test_draining_is_seen_by_neighbours_and_in_the_state(tmp_path: Path) -> None:
    async def story() -> None:
        nodes: list[PeerNode] = []
        async with stopping(nodes):
            nodes.append(a := await start_node(tmp_path / "a", A))
            nodes.append(b := await start_node(tmp_path / "b", B, [a.address]))
            await b.until(lambda: up(b, a))
            graces: list[float] = []
            assert PeersOperator(a.membership, lambda grace: graces.append(grace) or 3).drain(30.0) == 3
            assert graces == [30.0]
            await b.until(lambda: states(b)[a.node_id] is PeerState.DRAINING)
            assert b.membership.neighbours() == {a.node_id: False}
            assert PeersOperator(a.membership).state().draining

    run(story())


def test_a_node_of_another_model_is_met_and_its_heads_are_refused(tmp_path: Path) -> None:
    async def story() -> None:
        nodes: list[PeerNode] = []
        async with stopping(nodes):
            nodes.append(a := await start_node(tmp_path / "a", A))
            a.membership.heads.expect(b"x" * 32, BASE)
            a.membership.publish(draft())
            nodes.append(b := await start_node(tmp_path / "b", B, [a.address]))
            await b.until(lambda: take_snapshot(b.membership).refusals["schema"])
            await b.until(lambda: up(b, a))
            assert a.node_id not in heads(b) and a.node_id not in b.membership.bans.banned()
            assert take_snapshot(b.membership).refusals["schema"] <= 2, "it is not asked for again and again"
            assert b.membership.heads.expected is not None and b.membership.heads.expected.schema_hash == SCHEMA

    run(story())
