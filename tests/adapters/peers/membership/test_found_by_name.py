"""Nodes behind one name, at several addresses of loopback, with real certificates for the name alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest

from mergenode.adapters.peers.access.credentials import Tls
from mergenode.adapters.peers.access.trial_folder import TrialFolder
from mergenode.adapters.peers.membership import link
from mergenode.adapters.peers.membership.snapshot import take_snapshot
from mergenode.adapters.peers.port.channels import open_bulk_channel, open_channel
from mergenode.wire.sightings import Contact, Heard, PeerState
from tests.support.peer_nodes import PeerNode, draft, identity, start_node, stopping
from tests.support.peer_ports import Trial, code_of, open_port, register_everything

NAME = "nodes.models.svc"
ENTRY = f"dns:{NAME}:50051"
FETCH = "/mergenode.v1.Blobs/Fetch"
A, B, C = (identity(number) for number in (1, 2, 3))


@pytest.fixture
def foreign(tmp_path: Path) -> Trial:
    return Trial(tmp_path / "foreign")


class Named:
    """What the name stands for; the look-up that nodes are handed."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.asked: set[tuple[str, int]] = set()

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.add((host, port))
        return sorted(self.addresses)


def tls_of(trial: Trial, name: str, *hosts: str) -> Tls:
    return Tls(trial.files("peer", name, hosts or (NAME,)), lambda _: None)


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def links(node: PeerNode) -> dict[str, str]:
    return dict(node.membership.picture().links)


def up(node: PeerNode, *others: PeerNode) -> bool:
    return all(node.membership.neighbours().get(other.node_id) for other in others)


def warnings(node: PeerNode) -> list[str]:
    return [text for level, text in node.said if level != "info"]


def row(node: PeerNode, node_id: UUID) -> Any:
    return next((each for each in node.membership.picture().table if each.node_id == node_id), None)


def test_two_nodes_under_one_name_are_two_and_each_sees_itself(tmp_path: Path, trial: Trial) -> None:
    async def story() -> None:
        nodes: list[PeerNode] = []
        named = Named()
        async with stopping(nodes):
            shared = tls_of(trial, "shared")  # one certificate for all, as in one Secret
            for number, who in ((2, A), (3, B), (4, C)):
                nodes.append(
                    await start_node(
                        tmp_path / str(number), who, [ENTRY], host=f"127.0.0.{number}", tls=shared, resolve=named
                    )
                )
            a, b, c = nodes
            named.addresses = [each.address for each in nodes]
            for node in nodes:
                others = [each for each in nodes if each is not node]
                await node.until(lambda node=node, others=others: up(node, *others))
                await node.until(lambda node=node: links(node).get(node.address) == "this node itself")
                assert set(node.membership.neighbours()) == {each.node_id for each in others}
                assert warnings(node) == []
            head = a.membership.publish(draft())
            await c.until(lambda: c.membership.newest().get(a.node_id) == head)
            # Transfers call the address that answers, and expect the same name there.
            assert b.membership.addresses() == {a.node_id: a.address, c.node_id: c.address}
            assert [b.membership.name_of(each.address) for each in (a, c)] == [NAME, NAME]
            assert named.asked == {(NAME, 50051)}

    run(story())


def test_what_is_found_is_called_there_whatever_else_a_node_asks_for(tmp_path: Path, trial: Trial) -> None:
    """A caller is called back before its address is found: the call back gives way, and nobody is alarmed."""

    async def story() -> None:
        nodes: list[PeerNode] = []
        named = Named()
        async with stopping(nodes):
            everywhere = tls_of(trial, "everywhere", NAME, "127.0.0.1", "127.0.0.2")
            nodes.append(
                a := await start_node(tmp_path / "a", A, [ENTRY], host="127.0.0.2", tls=everywhere, resolve=named)
            )
            nodes.append(b := await start_node(tmp_path / "b", B, [a.address], host="0.0.0.0", tls=everywhere))
            port = b.address.rpartition(":")[2]
            asked, found = f"127.0.0.1:{port}", f"127.0.0.3:{port}"
            b.membership.advertise(asked)
            await a.until(lambda: links(a) == {asked: ""} and up(a, b))
            named.addresses = [found]
            await a.until(lambda: links(a) == {found: ""} and up(a, b))
            assert a.membership.addresses() == {b.node_id: found} and warnings(a) == []

    run(story())


def refused(address: str) -> str:
    return f"{address} shows a certificate that is not for {NAME}, the name that this address was found under"


def test_a_certificate_without_the_name_is_refused_and_the_log_says_what_to_do(tmp_path: Path, trial: Trial) -> None:
    async def story() -> None:
        nodes: list[PeerNode] = []
        named = Named()
        async with stopping(nodes):
            # For its own address even: what was found under a name has to have the name.
            wrong = tls_of(trial, "wrong", "127.0.0.3", f"*.{NAME}", f"x.{NAME}")
            nodes.append(b := await start_node(tmp_path / "b", B, host="127.0.0.3", tls=wrong, calls=False))
            nodes.append(c := await start_node(tmp_path / "c", C, host="127.0.0.4", tls=tls_of(trial, "right")))
            named.addresses = [b.address, c.address]
            right = tls_of(trial, "right")
            nodes.append(a := await start_node(tmp_path / "a", A, [ENTRY], host="127.0.0.2", tls=right, resolve=named))
            await a.until(lambda: links(a).get(b.address, "").startswith(refused(b.address)))
            await a.until(lambda: up(a, c))
            (said,) = warnings(a)
            assert said == links(a)[b.address] and f"--host {NAME}" in said and "dnsNames" in said
            assert b.node_id not in a.membership.addresses() and row(a, b.node_id) is None

    run(story())


def test_an_authority_that_is_not_ours_is_refused_whatever_name_it_wrote(
    tmp_path: Path, trial: Trial, foreign: Trial
) -> None:
    async def story() -> None:
        nodes: list[PeerNode] = []
        named = Named()
        async with stopping(nodes):
            theirs = tls_of(foreign, "theirs", NAME, "127.0.0.3")
            nodes.append(b := await start_node(tmp_path / "b", B, host="127.0.0.3", tls=theirs, calls=False))
            named.addresses = [b.address]
            ours = tls_of(trial, "ours")
            nodes.append(a := await start_node(tmp_path / "a", A, [ENTRY], host="127.0.0.2", tls=ours, resolve=named))
            said = f"{b.address} shows a certificate that was not signed by {ours.files.authority}"
            await a.until(lambda: links(a).get(b.address) == said)
            assert warnings(a) == [said] and not a.membership.neighbours()

    run(story())


def test_certificates_are_renewed_under_running_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One without the name is replaced by one with it, then the authority by another: no node starts again."""
    monkeypatch.setattr(link, "SESSION_SECONDS", 0.2)
    own = Trial(tmp_path / "trial")

    async def story() -> None:
        nodes: list[PeerNode] = []
        named = Named()
        async with stopping(nodes):
            pair = [tls_of(own, "a", NAME), tls_of(own, "b", "elsewhere.models.svc")]
            for number, (who, tls) in enumerate(zip((A, B), pair, strict=True), 2):
                nodes.append(
                    await start_node(
                        tmp_path / str(number), who, [ENTRY], host=f"127.0.0.{number}", tls=tls, resolve=named
                    )
                )
            a, b = nodes
            named.addresses = [a.address, b.address]
            await a.until(lambda: links(a).get(b.address, "").startswith(refused(b.address)))
            own.folder.issue("peer", "b", (NAME,), 5, force=True)
            await a.until(lambda: up(a, b))
            await b.until(lambda: up(b, a))
            replace_authority(own.folder, ("a", "b"))
            for node, other in ((a, b), (b, a)):
                await node.until(two_conversations(monkeypatch, node, other))
            assert not [text for text in warnings(a) + warnings(b) if "was not signed" in text]

    run(story())


def replace_authority(folder: TrialFolder, names: tuple[str, ...]) -> None:
    """First both everywhere, then new certificates, then the old one goes: docs/peers.md."""
    old = (folder.path / "ca.crt").read_bytes()
    folder.initialise(30, force=True)
    new = (folder.path / "ca.crt").read_bytes()
    for authority in (old + new, None, new):
        for name in names:
            if authority is None:
                folder.issue("peer", name, (NAME,), 5, force=True)
                authority_file = folder.path / name / "ca.crt"
                authority_file.write_bytes(old + new)
            else:
                (folder.path / name / "ca.crt").write_bytes(authority)


def two_conversations(monkeypatch: pytest.MonkeyPatch, node: PeerNode, other: PeerNode) -> Callable[[], bool]:
    """Whether two conversations began from now on, and all is well."""
    begun: list[str] = []
    met = node.membership.met

    def counted(contact: Contact) -> Heard:
        if contact.dialled and contact.capabilities:  # only a greeting has these
            begun.append(contact.dialled)
            node.changed.set()
        return met(contact)

    monkeypatch.setattr(node.membership, "met", counted)
    return lambda: begun.count(other.address) >= 2 and links(node)[other.address] == "" and up(node, other)


def test_addresses_come_and_go(tmp_path: Path, trial: Trial) -> None:
    """One comes, one goes for good, one comes back elsewhere: nobody is mourned who was taken away."""

    async def story() -> None:
        nodes: list[PeerNode] = []
        named = Named()
        async with stopping(nodes):
            tls = tls_of(trial, "shared")

            async def started(number: int, who: Any) -> PeerNode:
                folder = tmp_path / str(who.node_id)
                node = await start_node(folder, who, [ENTRY], host=f"127.0.0.{number}", tls=tls, resolve=named)
                nodes.append(node)
                return node

            a, b = await started(2, A), await started(3, B)
            named.addresses = [a.address, b.address]
            await a.until(lambda: up(a, b))
            c = await started(4, C)
            named.addresses.append(c.address)
            await a.until(lambda: up(a, b, c))
            await c.until(lambda: up(c, a, b))

            named.addresses.remove(b.address)
            await b.stop()
            await a.until(lambda: b.address not in links(a) and b.node_id not in a.membership.neighbours())
            await a.until(lambda: not row(a, b.node_id).direct)
            assert row(a, b.node_id).state in (PeerState.SUSPECT, PeerState.DOWN)
            assert a.membership.name_of(b.address) == ""
            assert any("is gone" in text for _, text in a.said) and warnings(a) == []

            await c.stop()  # with its address: it may come back
            await a.until(lambda: row(a, c.node_id).state is PeerState.DOWN)
            assert row(a, c.node_id).direct and a.membership.neighbours() == {c.node_id: False}

            again = await started(5, identity(2, incarnation=2))
            named.addresses = [a.address, again.address]
            await a.until(lambda: up(a, again))
            assert row(a, b.node_id).direct and row(a, b.node_id).incarnation == 2
            assert take_snapshot(a.membership).links.keys() <= {a.address, again.address}

    run(story())


def test_weights_and_pushes_are_held_against_the_name_too(trial: Trial) -> None:
    tls, caller = tls_of(trial, "shared"), trial.caller("peer")
    for opened in (open_channel, open_bulk_channel):
        with open_port(trial, [register_everything], tls=tls) as port:
            for name, code in (
                (NAME, grpc.StatusCode.OK),
                ("", grpc.StatusCode.UNAVAILABLE),
                ("other.models.svc", grpc.StatusCode.UNAVAILABLE),
                (f"x.{NAME}", grpc.StatusCode.UNAVAILABLE),
            ):
                with opened(port.address, caller, name) as channel:
                    assert code_of(channel, FETCH) is code, (opened.__name__, name)


def test_a_team_that_calls_itself_by_the_name_is_no_node(trial: Trial) -> None:
    """Its certificate has the name as that of its holder, and serves nothing."""
    tls = Tls(trial.files("pusher", NAME), lambda _: None)
    with (
        open_port(trial, [register_everything], tls=tls) as port,
        open_channel(port.address, trial.caller("peer"), NAME) as channel,
    ):
        assert code_of(channel, FETCH) is grpc.StatusCode.UNAVAILABLE
