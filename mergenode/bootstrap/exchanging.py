"""The exchange of a node, composed: a shelf that holds the base, heads from membership, weights by replication."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import grpc
from blake3 import blake3

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.checkpoints.weights import open_weights
from mergenode.adapters.durable import disk_errors, replace_file
from mergenode.adapters.peers.port.channels import open_bulk_channel
from mergenode.adapters.peers.weights.exchange import GrpcExchange
from mergenode.adapters.peers.weights.fetching import Fetcher, FetchSettings
from mergenode.adapters.peers.weights.member_heads import MemberHeads
from mergenode.adapters.peers.weights.shelf import Shelf
from mergenode.bootstrap.parts import limits_of, method_of
from mergenode.bootstrap.peers import PEERS, Peers
from mergenode.methods.contract import Method
from mergenode.settings import Settings
from mergenode.types import Digest
from mergenode.wire.blocks import Root
from mergenode.wire.limits import WireLimits
from mergenode.wire.manifest import Manifest

SHELF = "shelf"
"""Below the state directory."""
BASE_ROOT = "base.json"
"""Below ``state/peers``: the root of the base, a cache."""

_KIND_CONTEXT = "mergenode exchange 1 kind"
_MOST_PER_BYTE = 16
"""Bytes that are offered for a byte of base: two-sided statistics in float32 of a bf16 model stay below."""
_ROOM = 256 << 20


def open_exchange(peers: Peers, base: BaseModel, method: Method | None = None) -> tuple[GrpcExchange, Shelf]:
    """The exchange that the settings name, not pulling yet, and the shelf that is to be served.

    ``method``: with all that its options say; None: as the settings name it.

    Raises as ``Shelf.put``; FatalError where ``Membership.heads`` does.
    """
    settings = peers.settings
    shelf = Shelf(settings.node.state / SHELF, peers.clock.monotonic, observer=peers.transfers)
    described = _base_on(shelf, settings, base.digest)
    peers.membership.heads.expect(_kind(settings, described, method or method_of(settings)), described.root)
    limits = WireLimits(model_bytes=_MOST_PER_BYTE * described.total_bytes + _ROOM)

    def channel_of(address: str) -> grpc.Channel:
        return open_bulk_channel(address, peers.credentials(), peers.membership.name_of(address))

    exchange = GrpcExchange(
        MemberHeads(peers.membership),
        shelf,
        lambda accuse: Fetcher(
            shelf, channel_of, peers.transfers, accuse,
            FetchSettings(limits=limits, tracer=peers.tracer),
        ),
        base_root=described.root,
        pinned=[described.root],
        observer=peers.transfers,
        one_schema=False,
    )  # fmt: skip
    return exchange, shelf


def _kind(settings: Settings, base: Manifest, method: Method) -> bytes:
    """What is exchanged, as 32 bytes: nodes that would not understand each other's weights refuse their heads."""
    statistics = {"method": method.name, "options": dict(method.options)}
    weights = {"dtype": settings.publish.dtype}
    said: Mapping[str, object] = {
        "mixer": settings.mixer.name,
        "base": base.schema_hash.hex(),
        **(statistics if settings.mixer.name == "union" else weights),
    }
    text = json.dumps(said, sort_keys=True, default=repr)
    return blake3(text.encode(), derive_key_context=_KIND_CONTEXT).digest()


def _base_on(shelf: Shelf, settings: Settings, digest: Digest) -> Manifest:
    """The base on the shelf, described once: a reading of all of it."""
    cache = settings.node.state / PEERS / BASE_ROOT
    known = shelf.manifests().get(_remembered(cache, digest))
    if known is not None:
        return known
    with open_weights(settings.base, root=trusted_root(settings.base), limits=limits_of(settings)) as weights:
        folder = settings.base if settings.base.is_dir() else settings.base.parent
        files = [folder / name for name in weights.files]
    described = shelf.put(files)
    with disk_errors(cache):
        replace_file(cache, json.dumps({"digest": digest, "root": described.root.hex()}).encode())
    return described


def _remembered(cache: Path, digest: Digest) -> Root:
    """The root that belongs to this base; none of any model when it is not known."""
    try:
        found = json.loads(cache.read_bytes())
        return Root(bytes.fromhex(found["root"])) if found["digest"] == digest else Root(b"")
    except (OSError, ValueError, KeyError, TypeError):
        return Root(b"")
