"""Channels to other nodes, with the settings of docs/peers.md.

Each has a connection of its own, so that heartbeats never wait behind weights. The server's certificate has to be for
the host that was called, or for the name that the address was found under: then for that name alone. Names resolve
anew when a connection breaks.
"""

from __future__ import annotations

import json
from typing import Any

import grpc

from mergenode.adapters.peers.port.addresses import checked_address

MESSAGE_BYTES = 4 << 20
METADATA_BYTES = 16 << 10
KEEPALIVE_MS = 30_000
KEEPALIVE_PATIENCE_MS = 10_000
BULK_WINDOW_BYTES = 16 << 20
"""What may be on its way to a receiver of weights: fills a line of 80 MB/s and 200 ms, and bounds what waits in memory
while a disk is slow. Left to gRPC's own estimate it was seen to reach 90 MB on a fast line."""

LIMITS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_metadata_size", METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES),
    ("grpc.compression_enabled_algorithms_bitset", 1),  # identity alone: 77 CPU seconds per GB, and no bombs
)
KEEPALIVE = (
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_PATIENCE_MS),
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_PATIENCE_MS),  # what counts when the other process is frozen
    ("grpc.http2.max_pings_without_data", 0),
)

_CONTROL = ("mergenode.v1.Peer", "mergenode.v1.Admin", "grpc.health.v1.Health")
_RETRY = {
    "maxAttempts": 4,
    "initialBackoff": "0.2s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
"""grpc takes a random share of each back-off. Transfers are not in here: they resume from what they have."""

SERVICE_CONFIG = json.dumps(
    {"methodConfig": [{"name": [{"service": service} for service in _CONTROL], "retryPolicy": _RETRY}]}
)

OPTIONS: tuple[tuple[str, Any], ...] = (
    *LIMITS,
    *KEEPALIVE,
    ("grpc.service_config", SERVICE_CONFIG),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 10_000),  # two minutes otherwise: a node that came back is met soon
)

BULK: tuple[tuple[str, Any], ...] = (
    *OPTIONS,
    ("SingleThreadedUnaryStream", 1),  # no thread between the socket and the file
    ("grpc.http2.bdp_probe", 0),  # only together with the next: alone it leaves a window of 64 KiB
    ("grpc.http2.lookahead_bytes", BULK_WINDOW_BYTES),
)
"""For the channels that weights come through."""


def open_bulk_channel(address: str, credentials: grpc.ChannelCredentials | None, name: str = "") -> grpc.Channel:
    """A channel for the weights of other nodes; otherwise as ``open_channel``."""
    return _open(address, credentials, (*BULK, *_expecting(name)))


def open_channel(address: str, credentials: grpc.ChannelCredentials | None, name: str = "") -> grpc.Channel:
    """A channel for threads; ``credentials`` None: no TLS. Connects when first used.

    ``name``: what the server's certificate has to be for, where the address was found under a name; empty: for the
    host in ``address``. It must come from this node's own settings, never from another node.

    Raises:
        ValueError: ``address`` is not host:port.
    """
    lean = ("SingleThreadedUnaryStream", 1)  # 5 to 10 % less CPU
    return _open(address, credentials, (*OPTIONS, lean, *_expecting(name)))


def open_aio_channel(address: str, credentials: grpc.ChannelCredentials | None, name: str = "") -> grpc.aio.Channel:
    """A channel for coroutines of the running loop; otherwise as ``open_channel``."""
    if credentials is None:
        return grpc.aio.insecure_channel(checked_address(address), OPTIONS)
    return grpc.aio.secure_channel(checked_address(address), credentials, (*OPTIONS, *_expecting(name)))


def _expecting(name: str) -> tuple[tuple[str, Any], ...]:
    """Check the certificate against ``name`` in place of the host: in the handshake, and in what the server is told."""
    return (("grpc.ssl_target_name_override", name),) if name else ()


def _open(
    address: str, credentials: grpc.ChannelCredentials | None, options: tuple[tuple[str, Any], ...]
) -> grpc.Channel:
    if credentials is None:
        return grpc.insecure_channel(checked_address(address), options)
    return grpc.secure_channel(checked_address(address), credentials, options)
