"""Other nodes: gone, lying, broken or slow; and callers that may not call."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import torch

from mergenode.adapters.peers.access.identity import read_identity
from mergenode.wire.v1 import admin_pb2
from mergenode.wire.v1.admin_pb2_grpc import AdminStub
from tests.deploy.observability.peers_stage import Peers, certificate
from tests.deploy.observability.scenario import Fault, provokes
from tests.deploy.observability.stage import Node, Stage
from tests.support.relay import Faults, Relay


def circle(stage: Stage, names: str) -> Peers:
    """The first is watched; all know each other."""
    peers = Peers(stage, names)
    for name in names:
        peers.node(name, watched=name == names[0])
    peers.start()
    peers.know_each_other(peers.nodes[names[0]], len(names) - 1)
    return peers


def node_id(node: Node) -> str:
    identity = read_identity(node.real.state)
    assert identity is not None
    return str(identity.node_id)


@provokes("MergenodePeerDown", "one of three neighbours is killed")
def peer_down(stage: Stage) -> Iterator[Fault]:
    peers = circle(stage, "abcd")
    gone = peers.nodes["d"]
    gone.put("one", gone.tuned(1))
    peers.nodes["a"].published()
    gone.kill()
    yield Fault(peers.nodes["a"], {"NODE": node_id(gone)[:8]}, told=(node_id(gone)[:8],))
    gone.start()


@provokes("MergenodePeersLost", "both neighbours are stopped at once")
def peers_lost(stage: Stage) -> Iterator[Fault]:
    peers = circle(stage, "abc")
    for name in "bc":
        peers.nodes[name].send(signal.SIGSTOP)
    yield Fault(peers.nodes["a"])
    for name in "bc":
        peers.nodes[name].send(signal.SIGCONT)


def liar(stage: Stage, wrong: int) -> tuple[Node, Node]:
    """A sound node and one whose first signatures are wrong."""
    peers = Peers(stage, "ab")
    sound, lying = peers.node("a"), peers.node("b", watched=False, broken="signing")
    lying.environment["WRONG_SIGNATURES"] = str(wrong)
    peers.start()
    peers.know_each_other(sound, 1)
    sound.learnt(3)
    return sound, lying


@provokes("MergenodePeerMisbehaves", "a neighbour's first signature is wrong")
def peer_misbehaves(stage: Stage) -> Iterator[Fault]:
    sound, lying = liar(stage, 1)
    lying.fold("one", lying.tuned(1))
    yield Fault(sound, told=("signature",))
    lying.fold("two", lying.tuned(2))
    sound.published()


@provokes(
    "MergenodePeerBanned",
    "a neighbour signs wrongly until it is banned",
    beside={"MergenodePeerMisbehaves": "it is banned because it misbehaved"},
)
def peer_banned(stage: Stage) -> Iterator[Fault]:
    sound, lying = liar(stage, 3)
    for seed in range(1, 6):
        lying.put(f"lie-{seed}", lying.tuned(seed))
        lying.until(f"folded 'lie-{seed}'")
        sound.learnt(2)
        if sound.value("mergenode_peers_banned"):
            break
    yield Fault(sound)
    tls = certificate(stage.root / "certs", "alice", "admin")
    admin = AdminStub(called(sound, tls))
    raw = read_identity(lying.real.state)
    assert raw is not None
    admin.Ban(admin_pb2.BanRequest(node_id=raw.node_id.bytes, lift=True), timeout=30)


def called(node: Node, tls: dict[str, str]) -> grpc.Channel:
    ca, key, chain = (Path(tls[each]).read_bytes() for each in ("authority", "key", "certificate"))
    return grpc.secure_channel(node.settings["peers"]["listen"], grpc.ssl_channel_credentials(ca, key, chain))


@provokes("MergenodeBadBlocks", "the memory of a neighbour flips a bit of what it sends now and then")
def bad_blocks(stage: Stage) -> Iterator[Fault]:
    peers = Peers(stage, "ab")
    sound, broken = peers.node("a"), peers.node("b", watched=False, broken="memory")
    peers.start()
    peers.know_each_other(sound, 1)
    for seed in range(1, 6):
        broken.fold(f"flipped-{seed}", broken.tuned(seed))
        sound.learnt(3)
        if "MergenodeBadBlocks" in stage.watcher.firing(sound.instance):
            break
    yield Fault(sound, told=(node_id(broken)[:8],))
    sound.sees(f'mergenode_version{{instance="{sound.instance}"}} > 0')


@provokes(
    "MergenodeTransfersStalling",
    "the line to a neighbour carries eight kilobytes a second",
    altered="the node waits two seconds for a silent source, not thirty, as the windows are shorter",
)
def transfers_stalling(stage: Stage) -> Iterator[Fault]:
    draw = torch.Generator().manual_seed(1)
    large = {f"model.layers.{n}.mlp.weight": torch.randn(384, 384, generator=draw) for n in range(6)}
    peers = Peers(stage, "ab")
    relay = stage.stack.enter_context(Relay(("127.0.0.1", peers.ports["b"])))
    reader = peers.node("a", neighbours={"b": relay.port}, broken="clock", tensors=large)
    source = peers.node("b", watched=False, advertise=relay.address, tensors=large)
    peers.start()
    peers.know_each_other(reader, 1)
    relay.set(Faults(rate=8_000))
    source.put("one", source.tuned(1))
    yield Fault(reader, told=(node_id(source)[:8],))
    relay.set(Faults())
    reader.published()


@provokes("MergenodeStoreDamaged", "a bit of a model on the shelf of the node changes on its disk")
def store_damaged(stage: Stage) -> Iterator[Fault]:
    peers = Peers(stage, "ab")
    node, other = peers.node("a"), peers.node("b", watched=False)
    node.start()
    node.fold("one", node.tuned(1))
    for file in (node.real.state / "shelf").glob("*/*.safetensors"):
        raw = bytearray(file.read_bytes())
        raw[-5] ^= 4
        file.unlink()
        file.write_bytes(raw)
    other.start()
    yield Fault(node)
    node.fold("two", node.tuned(2))
    other.until("is visible at")


@provokes("MergenodeCertificateExpiring", "the certificate of a node ends in a day")
def certificate_expiring(stage: Stage) -> Iterator[Fault]:
    peers = Peers(stage, "a", days=1)
    node = peers.node("a")
    node.start()
    yield Fault(node, {"FILE": peers.tls["a"]["certificate"]})
    certificate(peers.certificates, "a", days=90)


@provokes("MergenodeCallsRefused", "a team calls what only operators may, again and again")
def calls_refused(stage: Stage) -> Iterator[Fault]:
    peers = Peers(stage, "a")
    node = peers.node("a")
    node.start()
    tls = certificate(stage.root / "certs", "team", "pusher")
    with called(node, tls) as channel:
        admin = AdminStub(channel)
        for _ in range(10):
            for _ in range(10):
                with suppress(grpc.RpcError):
                    admin.GetState(admin_pb2.GetStateRequest(), timeout=30)
            stage.wait(1)
            if "MergenodeCallsRefused" in stage.watcher.firing(node.instance):
                break
    yield Fault(node, {"FILE": tls["certificate"]})
